//! What can go wrong in the controller. Conditions tell users; these tell operators, and `schedule` when to
//! try again.

use std::net::SocketAddr;
use std::time::Duration;

use connectors_api::names;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("{action}: {}", brief(.source))]
    Api { action: String, source: kube::Error },
    #[error("lost the Lease {lease}: {cause}; this replica stops so that another can go on")]
    LeaseLost { lease: String, cause: String },
    #[error("cannot listen on {address}: {source}; choose another --admin-address")]
    AdminPort { address: SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Ca(String),
    /// What stands in ConfigMap `connectors-classes`.
    #[error("{file} of ConfigMap {} {cause}", names::CLASSES_CONFIGMAP)]
    ClassText { file: String, cause: String },
    #[error("openssl: {0}")]
    OpenSsl(#[from] openssl::error::ErrorStack),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    /// What the API server answered to a write.
    #[error("the object that was written cannot be read: {0}")]
    Unreadable(String),
    /// A part of the controller ended although it should run for ever.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

impl Error {
    /// Someone else changed the object since it was read: try again with what is there now.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.is_conflict())
    }

    /// Someone else made an object of that name.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.is_already_exists())
    }

    /// The object is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.is_not_found())
    }

    /// Bounded word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Api { .. } if self.is_conflict() => "conflict",
            Error::Api { .. } => "api",
            Error::LeaseLost { .. } => "lease",
            Error::AdminPort { .. } => "admin",
            Error::ClassText { .. } => "text",
            Error::Ca(_) | Error::OpenSsl(_) => "ca",
            Error::Metrics(_) | Error::Json(_) | Error::Unreadable(_) | Error::Ended(_) => "internal",
        }
    }
}

/// kube prints a refusal with its whole debug form; the API server's own sentence is enough.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Service(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// For one call: an answer that never comes must keep neither a place nor a namespace's lock, nor what is done
/// periodically.
const DEADLINE: Duration = Duration::from_secs(10);

pub async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> InTime<T> {
    within(DEADLINE, call).await
}

pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> InTime<T> {
    let answer = tokio::time::timeout(limit, call).await;
    let late = || kube::Error::Service("the API server did not answer in time".into());
    InTime(answer.unwrap_or_else(|_| Err(late())))
}

/// What the API server answered to a call that had a deadline. Nothing else becomes an `Error`, so that no call is
/// without one.
#[must_use]
pub struct InTime<T>(Result<T, kube::Error>);

impl<T> InTime<T> {
    /// Says what was attempted, in the words that follow "cannot".
    pub fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.0.map_err(|source| Error::Api { action: format!("cannot {}", action()), source })
    }
}
