//! What is true, as the walks know it, and what that means for a request.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use super::clients::{Opened, Outcome};
use super::home::Grantee;
use super::tokens::{Issued, Kind, USERS};

/// A grant stands for a second in a tunnel that is open.
const GRANT: Duration = Duration::from_millis(1200);
/// For so long the walks' gateway uses what it was told of a token (`authorization.fresh`).
pub const REMEMBERED: Duration = Duration::from_millis(20);
/// The same, with time for an answer that was on its way.
const FORGOTTEN: Duration = Duration::from_millis(200);
/// All other tokens live longer.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Model {
    pub connectors: HashMap<usize, Connector>,
    pub class_broken: bool,
    granted: HashSet<(usize, usize, Grantee)>,
    revoked: HashMap<(usize, usize), Instant>,
    tokens: Vec<Token>,
    /// The token that each user has now.
    held: [usize; USERS],
    pods: [Option<usize>; USERS],
    pods_made: usize,
}

pub struct Connector {
    pub target: usize,
    /// Each credential that it has had since it was created; the last is the one that counts.
    pub credentials: Vec<String>,
    /// Something has changed since the class broke: what is in force then is not the model's to say.
    pub unclear: bool,
}

pub struct Token {
    pub text: String,
    user: usize,
    pod: Option<usize>,
    ends: SystemTime,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    /// Its Pod or its ServiceAccount is gone.
    GoneSince(Instant),
    ForAnotherAudience,
}

/// What a user has asked for. In reverse mode it names no target.
pub struct Asked {
    pub user: usize,
    pub connector: usize,
    pub target: Option<usize>,
}

/// When a request was made and answered.
pub struct During {
    at: Instant,
    begun: SystemTime,
    ended: SystemTime,
}

impl During {
    pub fn begin() -> During {
        During { at: Instant::now(), begun: SystemTime::now(), ended: SystemTime::now() }
    }

    pub fn end(mut self) -> During {
        self.ended = SystemTime::now();
        self
    }
}

/// What tokens say of a request: whether it may have been let in, and whether it had to be.
#[derive(Clone, Copy)]
pub struct Authority {
    may: bool,
    must: bool,
}

impl Authority {
    fn or(self, other: Authority) -> Authority {
        Authority { may: self.may || other.may, must: self.must || other.must }
    }
}

impl Token {
    /// For who comes with it now.
    fn counts(&self, during: &During) -> Authority {
        let lives = self.lives(during);
        let (may, must) = match self.standing {
            Standing::Good => (true, true),
            Standing::GoneSince(since) => (during.at.duration_since(since) < FORGOTTEN, false),
            Standing::ForAnotherAudience => (false, false),
        };
        Authority { may: lives.may && may, must: lives.must && must }
    }

    /// In a tunnel that was opened with it: only its end counts there.
    fn lives(&self, during: &During) -> Authority {
        Authority { may: during.begun < self.ends, must: during.ended < self.ends }
    }
}

impl Model {
    pub fn grant(&mut self, user: usize, connector: usize, to: Grantee) {
        self.granted.insert((user, connector, to));
    }

    pub fn revoke(&mut self, user: usize, connector: usize) {
        for to in [Grantee::Account, Grantee::Pod] {
            if self.granted.remove(&(user, connector, to)) {
                self.revoked.insert((user, connector), Instant::now());
            }
        }
    }

    pub fn hold(&mut self, user: usize, kind: Kind, issued: Issued) {
        let standing = match kind {
            Kind::ForAnotherAudience => Standing::ForAnotherAudience,
            Kind::Usual | Kind::Short | Kind::Ended => Standing::Good,
        };
        self.held[user] = self.tokens.len();
        let Issued { text, ends } = issued;
        self.tokens.push(Token { text, user, pod: self.pods[user], ends, standing });
    }

    pub fn held(&self, user: usize) -> (usize, &Token) {
        (self.held[user], &self.tokens[self.held[user]])
    }

    pub fn create_pod(&mut self, user: usize) {
        self.pods_made += 1;
        self.pods[user].get_or_insert(self.pods_made);
    }

    pub fn delete_pod(&mut self, user: usize) {
        if let Some(gone) = self.pods[user].take() {
            self.end(|token| token.pod == Some(gone));
        }
    }

    pub fn recreate(&mut self, user: usize) {
        self.end(|token| token.user == user);
    }

    fn end(&mut self, which: impl Fn(&Token) -> bool) {
        let good = self.tokens.iter_mut().filter(|token| token.standing == Standing::Good && which(token));
        good.for_each(|token| token.standing = Standing::GoneSince(Instant::now()));
    }

    /// How long until all short tokens have ended, and of those that users have it is forgotten that they counted.
    pub fn until_settled(&self) -> Duration {
        let left = self.tokens.iter().filter_map(|token| token.ends.duration_since(SystemTime::now()).ok());
        let short = left.filter(|left| *left < SHORT);
        let forgotten = (0..USERS).filter_map(|user| match self.held(user).1.standing {
            Standing::GoneSince(since) => FORGOTTEN.checked_sub(since.elapsed()),
            Standing::Good | Standing::ForAnotherAudience => None,
        });
        short.chain(forgotten).max().unwrap_or_default()
    }

    /// The token that a request of its own came with, and what it was worth.
    pub fn reversed(&self, user: usize, during: &During) -> (usize, Authority) {
        let (number, token) = self.held(user);
        (number, token.counts(during))
    }

    /// The same of one in a tunnel. There another token of the same ServiceAccount and Pod counts, too.
    pub fn tunnelled(&self, opened: &Opened, inside: Option<usize>, during: &During) -> (usize, Authority) {
        let opener = &self.tokens[opened.by];
        let own = if opened.now { opener.counts(during) } else { opener.lives(during) };
        let inside = inside.map(|user| self.held(user).1);
        match inside.filter(|token| (token.user, token.pod) == (opener.user, opener.pod)) {
            Some(token) => (opened.by, own.or(token.counts(during))),
            None => (opened.by, own),
        }
    }

    /// Whether a request that reached a target may have, and one that did not had to. `by`: the token that it was
    /// let in with.
    pub fn judge(
        &self,
        asked: &Asked,
        during: &During,
        (by, authority): (usize, Authority),
        outcome: &Outcome,
    ) -> Result<(), String> {
        let Asked { user, connector, target: wanted } = *asked;
        let known = self.connectors.get(&connector);
        let has = |to: Grantee| self.granted.contains(&(user, connector, to));
        let granted = has(Grantee::Account) || self.tokens[by].pod.is_some() && has(Grantee::Pod);
        let revoked = self.revoked.get(&(user, connector));
        let just_revoked = revoked.is_some_and(|since| during.at.duration_since(*since) < GRANT);
        match outcome {
            Outcome::Served { target, credential } => {
                let known = known.ok_or("a connector that does not exist was used")?;
                if !authority.may {
                    return Err("it was used with a token that counts no more".to_owned());
                }
                if !granted && !just_revoked {
                    return Err("it was used without a grant".to_owned());
                }
                known.served(wanted, *target, credential)
            }
            Outcome::Refused(why) => match known {
                Some(known) if authority.must && granted && known.serves(wanted) => {
                    Err(format!("it was refused: {why}"))
                }
                _ => Ok(()),
            },
        }
    }
}

impl Connector {
    /// Whether it must answer at this target.
    fn serves(&self, target: Option<usize>) -> bool {
        !self.unclear && target.is_none_or(|target| target == self.target)
    }

    fn served(&self, asked: Option<usize>, reached: usize, credential: &str) -> Result<(), String> {
        if self.unclear {
            return match self.credentials.iter().any(|one| one == credential) {
                true => Ok(()),
                false => Err(format!("{credential} is another's")),
            };
        }
        if reached != self.target || asked.is_some_and(|asked| asked != self.target) {
            return Err(format!("target {reached} is not its own"));
        }
        let last = self.credentials.last().map(String::as_str);
        match last == Some(credential) {
            true => Ok(()),
            false => Err(format!("{credential} was sent in place of {last:?}")),
        }
    }
}
