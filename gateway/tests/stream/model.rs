//! Thousands of interleavings of what owners, tenants and clients do, against the real gateway with a model beside
//! it: whose credential goes where, over whose connection, and for which hosts there is a certificate. Seeds of
//! failures are kept in `model-seeds.txt`. `CONNECTORS_MODEL_CASES` raises the number of walks.

mod gateway;
mod home;
mod targets;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};

use gateway::{Fault, Harness, NOBODY, Outcome};

const CONNECTORS: [&str; 3] = ["a", "b", "c"];
const USERS: usize = 2;
/// A grant stands for a second in a tunnel that is open.
const GRANT: Duration = Duration::from_millis(1200);

#[derive(Clone, Debug)]
enum Step {
    /// Creates the connector, or changes its address.
    Write {
        connector: usize,
        target: usize,
    },
    Rotate {
        connector: usize,
    },
    Delete {
        connector: usize,
    },
    Grant {
        user: usize,
        connector: usize,
    },
    Revoke {
        user: usize,
        connector: usize,
    },
    BreakClass,
    MendClass,
    /// Over a tunnel, `kept` from the last such request or a new one. Target 2 is nobody's.
    Tunnel {
        user: usize,
        connector: usize,
        target: usize,
        kept: bool,
    },
    Reverse {
        user: usize,
        connector: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (connector, user) = (0..CONNECTORS.len(), 0..USERS);
    prop_oneof![
        4 => (connector.clone(), 0..2usize).prop_map(|(connector, target)| Step::Write { connector, target }),
        2 => connector.clone().prop_map(|connector| Step::Rotate { connector }),
        1 => connector.clone().prop_map(|connector| Step::Delete { connector }),
        4 => (user.clone(), connector.clone()).prop_map(|(user, connector)| Step::Grant { user, connector }),
        1 => (user.clone(), connector.clone()).prop_map(|(user, connector)| Step::Revoke { user, connector }),
        1 => Just(Step::BreakClass),
        2 => Just(Step::MendClass),
        12 => (user.clone(), connector.clone(), 0..3usize, any::<bool>())
            .prop_map(|(user, connector, target, kept)| Step::Tunnel { user, connector, target, kept }),
        4 => (user, connector).prop_map(|(user, connector)| Step::Reverse { user, connector }),
    ]
}

/// What is true.
#[derive(Default)]
struct Model {
    connectors: HashMap<usize, Connector>,
    granted: HashSet<(usize, usize)>,
    revoked: HashMap<(usize, usize), Instant>,
    class_broken: bool,
}

struct Connector {
    target: usize,
    /// Each credential that it has had since it was created; the last is the one that counts.
    credentials: Vec<String>,
    /// Something has changed since the class broke: what is in force then is not the model's to say.
    unclear: bool,
}

impl Model {
    /// Whether a request that reached a target may have, and one that did not had to.
    fn judge(
        &self,
        user: usize,
        connector: usize,
        target: Option<usize>,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let (known, pair) = (self.connectors.get(&connector), (user, connector));
        let just_revoked = self.revoked.get(&pair).is_some_and(|since| since.elapsed() < GRANT);
        match outcome {
            Outcome::Served { target: reached, credential } => {
                let known = known.ok_or("a connector that does not exist was used")?;
                if !self.granted.contains(&pair) && !just_revoked {
                    return Err("it was used without a grant".to_owned());
                }
                if known.unclear {
                    return match known.credentials.contains(credential) {
                        true => Ok(()),
                        false => Err(format!("{credential} is another's")),
                    };
                }
                if *reached != known.target || target.is_some_and(|target| target != known.target) {
                    return Err(format!("target {reached} is not its own"));
                }
                match known.credentials.last() == Some(credential) {
                    true => Ok(()),
                    false => Err(format!("{credential} was sent in place of {:?}", known.credentials.last())),
                }
            }
            Outcome::Refused(why) => match known {
                Some(known)
                    if self.granted.contains(&pair)
                        && !known.unclear
                        && target.is_none_or(|target| target == known.target) =>
                {
                    Err(format!("it was refused: {why}"))
                }
                _ => Ok(()),
            },
        }
    }
}

async fn walk(harness: &mut Harness, steps: &[Step]) -> Result<(), String> {
    let mut model = Model::default();
    harness.begin();
    for (at, step) in steps.iter().enumerate() {
        take(harness, &mut model, step).await.map_err(|why| format!("step {at}, {step:?}: {why}"))?;
    }
    harness.connections_of_two()
}

async fn take(harness: &mut Harness, model: &mut Model, step: &Step) -> Result<(), String> {
    match *step {
        Step::Write { connector, target } => {
            let broken = model.class_broken;
            let fresh = harness.write(CONNECTORS[connector], target);
            let known = model.connectors.entry(connector).or_insert_with(|| Connector {
                target,
                credentials: vec![fresh],
                unclear: broken,
            });
            known.unclear |= broken;
            known.target = target;
        }
        Step::Rotate { connector } => {
            if let Some(known) = model.connectors.get_mut(&connector) {
                known.credentials.push(harness.rotate(CONNECTORS[connector]));
                known.unclear |= model.class_broken;
            }
        }
        Step::Delete { connector } => {
            model.connectors.remove(&connector);
            harness.delete(CONNECTORS[connector]);
        }
        Step::Grant { user, connector } => {
            model.granted.insert((user, connector));
            harness.grant(user, CONNECTORS[connector], true);
        }
        Step::Revoke { user, connector } => {
            if model.granted.remove(&(user, connector)) {
                model.revoked.insert((user, connector), Instant::now());
            }
            harness.grant(user, CONNECTORS[connector], false);
        }
        Step::BreakClass => {
            model.class_broken = true;
            harness.class(true);
        }
        Step::MendClass => {
            model.class_broken = false;
            model.connectors.values_mut().for_each(|known| known.unclear = false);
            harness.class(false);
        }
        Step::Tunnel { user, connector, target, kept } => {
            let outcome = harness.tunnel(user, CONNECTORS[connector], target, kept).await?;
            if target == NOBODY {
                return match outcome {
                    Outcome::Refused(_) => Ok(()),
                    Outcome::Served { .. } => Err("nobody's host was reached".to_owned()),
                };
            }
            model.judge(user, connector, Some(target), &outcome)?;
        }
        Step::Reverse { user, connector } => {
            let outcome = harness.reverse(user, CONNECTORS[connector]).await;
            model.judge(user, connector, None, &outcome)?;
        }
    }
    Ok(())
}

/// How the walks ended: well, or with the shortest one that did not.
/// Gives how many requests were served.
fn run(fault: Fault, cases: u32, seeds: Option<&'static str>) -> Result<usize, (String, Vec<Step>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let harness = tokio::sync::Mutex::new(runtime.block_on(Harness::new(fault)));
    let persistence = seeds.map(|seeds| Box::new(FileFailurePersistence::Direct(seeds)) as Box<_>);
    let config =
        Config { cases, failure_persistence: persistence, max_shrink_time: 5_000, ..Config::default() };
    let outcome = TestRunner::new(config).run(&proptest::collection::vec(step(), 20..80), |steps| {
        let walked = runtime.block_on(async { walk(&mut *harness.lock().await, &steps).await });
        walked.map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(harness.into_inner().served()),
        Err(TestError::Fail(why, steps)) => Err((why.to_string(), steps)),
        Err(TestError::Abort(why)) => panic!("the walks were not taken: {why}"),
    }
}

#[test]
fn no_walk_sends_a_credential_astray_shares_a_connection_or_mints_for_nobody() {
    let cases = std::env::var("CONNECTORS_MODEL_CASES").map_or(60, |cases| cases.parse().expect("a number"));
    match run(Fault::None, cases, Some("tests/stream/model-seeds.txt")) {
        Ok(served) => assert!(served > cases as usize, "{served} requests of {cases} walks were served"),
        Err((why, steps)) => panic!("{why}\nafter {steps:#?}"),
    }
}

/// A model that finds nothing proves nothing.
#[test]
fn each_planted_fault_is_found() {
    for (fault, words) in [
        (Fault::KeyWithoutConnector, "one connection to a target"),
        (Fault::KeyWithoutVersion, "one connection to a target"),
        (Fault::NoHostCheck, "a certificate for nobody's host"),
    ] {
        let (why, steps) = run(fault, 200, None).expect_err("the fault was not found");
        assert!(why.contains(words), "{fault:?}: {why} after {steps:?}");
    }
}
