//! Asks the gateway to probe a Connector's target (`POST /probe`), over TLS with the connector CA. The controller itself never connects to a
//! target: it is the process that may read Secrets, so it must not be the one that talks to strangers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use connectors_api::probe::{self, ProbeReport, ProbeRequest};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use tokio::sync::watch;

/// A report holds a few sentences and pins of some kilobytes each.
const ANSWER_MAX: usize = 1024 * 1024;

/// Its table is behind ours for a moment after each edit; each gateway for itself.
const BEHIND: [u64; 6] = [50, 100, 200, 400, 800, 1500];
/// For the connector CA: made by this very process, at its first start.
const NO_CA: Duration = Duration::from_secs(5);

#[async_trait]
pub trait Prober: Send + Sync {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError>;

    /// What the gateway's certificate must verify with from now on, DER.
    fn trust(&self, roots: Vec<Vec<u8>>);
}

/// Why there is no report. The texts end in a status, so they hold no address and no body.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(
        "the gateway refused the controller's token (status code {0}): check the audience of its projected token and the gateway's --controller-user"
    )]
    Refused(u16),
    #[error("the gateway answered the probe with status code {0}: see its log")]
    Failed(u16),
    #[error("the gateway has not seen this connector yet: see its log and the detail of its /readyz")]
    Behind,
    #[error("the gateway did not answer the probe: is Deployment connectors-gateway available?")]
    Silent,
}

/// The real one. kube's client is an HTTP client with a bearer token that it reads again from the projected
/// file.
pub struct GatewayProber {
    config: Config,
    /// None until there is a connector CA.
    client: watch::Sender<Option<Client>>,
}

impl GatewayProber {
    /// # Errors
    /// When the URL does not parse, is not https, or the token file cannot be read.
    pub fn new(url: &str, token_file: &Path) -> anyhow::Result<GatewayProber> {
        let url: http::Uri = url.parse()?;
        anyhow::ensure!(url.scheme_str() == Some("https"), "{url} is not https: the token would be readable");
        std::fs::read(token_file).with_context(|| format!("reading {}", token_file.display()))?;
        let mut config = Config::new(url);
        config.auth_info =
            AuthInfo { token_file: Some(token_file.to_string_lossy().into_owned()), ..AuthInfo::default() };
        config.connect_timeout = Some(Duration::from_secs(5));
        // A 503 of the gateway is an answer for the status; `schedule` decides when to ask again.
        config.default_retry = false;
        Ok(GatewayProber { config, client: watch::Sender::new(None) })
    }
}

#[async_trait]
impl Prober for GatewayProber {
    async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
        let body = serde_json::to_vec(request).map_err(silent)?;
        let mut waits = BEHIND.iter();
        let response = loop {
            let response = match self.post(body.clone()).await {
                // A kept connection ends with the gateway's Pod that it led to; the second try finds another Pod.
                Err(ProbeError::Silent) => self.post(body.clone()).await?,
                answered => answered?,
            };
            match (response.status().as_u16(), waits.next()) {
                (200, _) => break response,
                (503, Some(wait)) => tokio::time::sleep(Duration::from_millis(*wait)).await,
                (503, None) => return Err(ProbeError::Behind),
                (code @ (401 | 403), _) => return Err(ProbeError::Refused(code)),
                (code, _) => return Err(ProbeError::Failed(code)),
            }
        };
        let answer = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(silent)?;
        serde_json::from_slice(&answer.to_bytes()).map_err(silent)
    }

    fn trust(&self, roots: Vec<Vec<u8>>) {
        let mut config = self.config.clone();
        config.root_cert = Some(roots);
        match Client::try_from(config) {
            Ok(client) => drop(self.client.send_replace(Some(client))),
            Err(error) => tracing::error!("the gateway cannot be asked to probe: {error}"),
        }
    }
}

impl GatewayProber {
    async fn post(&self, body: Vec<u8>) -> Result<http::Response<Body>, ProbeError> {
        let mut known = self.client.subscribe();
        let client = tokio::time::timeout(NO_CA, known.wait_for(Option::is_some)).await;
        let client = client.map_err(|_| silent("there is no connector CA yet"))?.map_err(silent)?.clone();
        let client = client.ok_or(ProbeError::Silent)?;
        let request = http::Request::post(probe::PATH)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .map_err(silent)?;
        client.send(request).await.map_err(silent)
    }
}

/// The cause is for the log; a status only says that there was no answer.
fn silent(error: impl std::fmt::Display) -> ProbeError {
    tracing::warn!("probe: {error}");
    ProbeError::Silent
}

/// Stands in for a gateway that is not running: answers as told and remembers what it was asked.
pub mod fake {
    use std::sync::{Mutex, PoisonError};

    use connectors_api::conditions::reason;
    use connectors_api::probe::{Outcome, OutcomeStatus, Remarks};

    use super::*;

    type Answer = Box<dyn Fn(&ProbeRequest) -> Result<ProbeReport, ProbeError> + Send + Sync>;

    pub struct FakeProber {
        answer: Mutex<Answer>,
        asked: Mutex<Vec<ProbeRequest>>,
        trusted: Mutex<Vec<Vec<u8>>>,
    }

    /// A target that a known CA vouches for, that is up, and that takes the credential.
    pub fn healthy() -> ProbeReport {
        let fine = |reason: &str| Outcome {
            status: OutcomeStatus::True,
            reason: reason.into(),
            message: String::new(),
        };
        ProbeReport {
            trust: fine(reason::NO_CA_CERT),
            pins: Vec::new(),
            liveness: fine(""),
            auth: fine(""),
            remarks: Remarks::default(),
        }
    }

    impl FakeProber {
        pub fn new(
            answer: impl Fn(&ProbeRequest) -> Result<ProbeReport, ProbeError> + Send + Sync + 'static,
        ) -> FakeProber {
            FakeProber {
                answer: Mutex::new(Box::new(answer)),
                asked: Mutex::default(),
                trusted: Mutex::default(),
            }
        }

        pub fn healthy() -> FakeProber {
            FakeProber::new(|_| Ok(healthy()))
        }

        pub fn answer_with(
            &self,
            answer: impl Fn(&ProbeRequest) -> Result<ProbeReport, ProbeError> + Send + Sync + 'static,
        ) {
            *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answer);
        }

        /// The roots that it was told of last, DER.
        pub fn trusted(&self) -> Vec<Vec<u8>> {
            self.trusted.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        /// Requests about the Connector of this name, oldest first.
        pub fn asked_about(&self, name: &str) -> Vec<ProbeRequest> {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.iter().filter(|request| request.name == name).cloned().collect()
        }
    }

    #[async_trait]
    impl Prober for FakeProber {
        async fn probe(&self, request: &ProbeRequest) -> Result<ProbeReport, ProbeError> {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            (self.answer.lock().unwrap_or_else(PoisonError::into_inner))(request)
        }

        fn trust(&self, roots: Vec<Vec<u8>>) {
            *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = roots;
        }
    }
}
