//! What using a connector means to RBAC. The gateway asks it for each token, the CSI driver once before the
//! first mount: in the same words and the same order, so that a Pod that gets its files may also connect.

use std::future::Future;

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::names::GROUP;
use crate::proxy_auth::ConnectorRef;

/// One access question about one connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub connector: ConnectorRef,
    pub verb: &'static str,
    /// Empty for the connector itself.
    pub subresource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// `may_get`: the principal may `get` the connector, so it may learn whether it exists.
    Denied {
        may_get: bool,
    },
}

/// Namespace and name of the Pod that a principal acts from.
pub type FromPod<'a> = Option<(&'a str, &'a str)>;

/// May this principal use this connector? `ask` gives the API server's answer to one question; its error is
/// the caller's. `get_is_use`: whoever may read the connector may use it (`authorization.get_is_use`, for
/// migration).
pub async fn review<E, A: Future<Output = Result<bool, E>>>(
    connector: &ConnectorRef,
    pod: FromPod<'_>,
    get_is_use: bool,
    ask: impl Fn(Question) -> A,
) -> Result<Verdict, E> {
    if ask(Question::to_use(connector)).await? {
        return Ok(Verdict::Allowed);
    }
    if let Some((namespace, name)) = pod
        && ask(Question::to_use_from(connector, namespace, name)).await?
    {
        return Ok(Verdict::Allowed);
    }
    let may_get = ask(Question::to_get(connector)).await?;
    Ok(if may_get && get_is_use { Verdict::Allowed } else { Verdict::Denied { may_get } })
}

impl Question {
    /// Use by whoever is bound: verb `*` on `connectors/proxy`.
    pub fn to_use(connector: &ConnectorRef) -> Question {
        Question { connector: connector.clone(), verb: "*", subresource: "proxy".to_owned() }
    }

    /// Use by this Pod alone. RBAC compares subresources literally, so neither form of use includes the
    /// other.
    pub fn to_use_from(connector: &ConnectorRef, pod_namespace: &str, pod: &str) -> Question {
        Question { subresource: format!("proxy/v1/pod/{pod_namespace}/{pod}"), ..Question::to_use(connector) }
    }

    /// Reading the connector, which may count as use (`authorization.get_is_use`, for migration).
    pub fn to_get(connector: &ConnectorRef) -> Question {
        Question { connector: connector.clone(), verb: "get", subresource: String::new() }
    }

    /// For a SubjectAccessReview.
    pub fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("connectors".to_owned()),
            subresource: Some(self.subresource.clone()).filter(|one| !one.is_empty()),
            namespace: Some(self.connector.namespace.clone()),
            name: Some(self.connector.name.clone()),
            verb: Some(self.verb.to_owned()),
            ..ResourceAttributes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures::FutureExt;

    use super::*;

    const USE: &str = "* proxy";
    const FROM_POD: &str = "* proxy/v1/pod/ci/build";
    const GET: &str = "get ";

    #[test]
    fn use_is_asked_first_then_use_from_the_pod_then_reading_and_the_first_yes_to_use_ends_it() {
        let pod = Some(("ci", "build"));
        let denied = |may_get| Verdict::Denied { may_get };
        for (pod, get_is_use, granted, asked, verdict) in [
            (pod, false, &[USE][..], &[USE][..], Verdict::Allowed),
            (pod, false, &[FROM_POD], &[USE, FROM_POD], Verdict::Allowed),
            (pod, false, &[GET], &[USE, FROM_POD, GET], denied(true)),
            (pod, true, &[GET], &[USE, FROM_POD, GET], Verdict::Allowed),
            (pod, true, &[], &[USE, FROM_POD, GET], denied(false)),
            (None, false, &[FROM_POD], &[USE, GET], denied(false)),
        ] {
            let seen = RefCell::new(Vec::new());
            let connector = ConnectorRef { namespace: "demo".to_owned(), name: "k8s".to_owned() };
            let ask = |question: Question| {
                let text = format!("{} {}", question.verb, question.subresource);
                let yes = granted.contains(&text.as_str());
                seen.borrow_mut().push(text);
                async move { Ok::<_, ()>(yes) }
            };
            let found = review(&connector, pod, get_is_use, ask).now_or_never();
            assert_eq!(found, Some(Ok(verdict)), "{granted:?}");
            assert_eq!(seen.into_inner(), asked, "{granted:?}");
        }
    }
}
