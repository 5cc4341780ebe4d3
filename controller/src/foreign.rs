//! Objects of our names that somebody else has made, or whose label somebody has taken off. They are left as they are, and
//! our caches, which are by label, do not show them: so they are remembered for a minute, in which nobody asks the API
//! server for them again, and told in the status of each Connector that they concern.

use connectors_api::names;

use crate::lately::Lately;
use crate::status::Findings;

/// One of the objects that we make in a namespace, with what its being somebody else's means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ours {
    kind: &'static str,
    name: &'static str,
    means: &'static str,
}

const UNREAD: &str = "the gateway may read credentials here only if whoever made it grants that";
pub const SECRETS_ROLE: Ours = Ours { kind: "Role", name: names::GATEWAY_SECRETS_ROLE, means: UNREAD };
pub const SECRETS_BINDING: Ours = Ours { kind: "RoleBinding", ..SECRETS_ROLE };
pub const USERS_BINDING: Ours = Ours {
    kind: "RoleBinding",
    name: names::USER_ROLE,
    means: "nobody is given the use of this namespace's connectors but by whoever made it",
};

impl Ours {
    fn told(self) -> String {
        let Ours { kind, name, means } = self;
        format!(
            "{kind} {name:?} was not made by {} and is left as it is: {means}; remove it, and it is made anew",
            names::CONTROLLER
        )
    }
}

#[derive(Default)]
pub struct Foreign(Lately<(Ours, String)>);

impl Foreign {
    pub fn add(&self, ours: Ours, namespace: &str) {
        self.0.add((ours, namespace.to_owned()));
        tracing::warn!(namespace, "{}", ours.told());
    }

    pub fn is_one(&self, ours: Ours, namespace: &str) -> bool {
        self.0.is_one(&(ours, namespace.to_owned()))
    }

    /// With SecretReady, to which the gateway points whom it has no credential for; and where all is fine.
    pub fn tell(&self, namespace: &str, findings: &mut Findings) {
        let told = |all: &[Ours]| -> Vec<String> {
            all.iter().filter(|ours| self.is_one(**ours, namespace)).map(|ours| ours.told()).collect()
        };
        let unread = told(&[SECRETS_ROLE, SECRETS_BINDING]);
        findings.warnings.extend(unread.iter().cloned().chain(told(&[USERS_BINDING])));
        findings.unread = Some(unread.join("; ")).filter(|unread| !unread.is_empty());
    }
}
