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

/// For one call of a walk: an answer that never comes must keep neither a place nor a namespace's lock.
const DEADLINE: Duration = Duration::from_secs(10);

pub async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let answer = tokio::time::timeout(DEADLINE, call).await;
    answer.unwrap_or_else(|_| Err(kube::Error::Service("deadline exceeded".into())))
}

/// Says what was attempted, in the words that follow "cannot".
pub trait Attempt<T> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { action: format!("cannot {}", action()), source })
    }
}
