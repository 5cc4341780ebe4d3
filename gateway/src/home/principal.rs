//! Who a client is, as a verified token says. Made by `admit/authenticate`; `admit/authorize` asks about it,
//! `record` names it.

use std::sync::Arc;
use std::time::SystemTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `system:serviceaccount:<ns>:<name>`.
    pub user: Arc<str>,
    pub uid: Arc<str>,
    pub groups: Arc<[String]>,
    /// The Pod that the token is bound to.
    pub pod: Option<PodRef>,
    /// End of the token: the next CONNECT or request after it needs a newer one; open streams go on.
    pub expires: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
}

impl Principal {
    /// That of its ServiceAccount; nothing for who is none.
    pub fn namespace(&self) -> &str {
        let account = self.user.strip_prefix("system:serviceaccount:");
        account.and_then(|account| account.split_once(':')).map_or("", |(namespace, _)| namespace)
    }
}
