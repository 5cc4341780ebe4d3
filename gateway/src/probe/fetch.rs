//! One question to a target for `probe`: the dial, trust and credential of a user's request, one answer,
//! bounded. Also the first contact, which sends no credential and finds what to pin.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use connectors_api::aliases;
use connectors_api::connector::Pin;
use connectors_api::target::Target;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use openssl::x509::X509;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::tls::SslStream;
use serde_json::Value;
use serde_yaml_ng::Deserializer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::admit::credential::Credential;
use crate::admit::grant;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::http::headers;
use crate::http::http2::weight;
use crate::http::request::Request;
use crate::http::wire::{Decoder, Encoder, Frame, Framing, Persistence};
use crate::relay::body::{H1Sink, H1Source, Sink, Source};
use crate::relay::{AnswerReader, put_head, send_head};
use crate::settings::{Plaintext, Unverified};
use crate::table::route::Route;
use crate::upstream::trust::{self, Judgement};
use crate::upstream::{Dial, Session, Taken, Want};

/// More of an answer no probe needs.
const MAX_BODY: usize = 64 << 10;
/// From the connection to the end of the answer.
const FETCH_TIME: Duration = Duration::from_secs(10);
/// cluster-info is a courtesy of the target: not worth waiting for.
const CLUSTER_INFO_TIME: Duration = Duration::from_secs(3);
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// An answer, its body cut off at 64 KiB.
#[derive(Debug)]
pub struct Fetched {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the target's certificate is worth. Nothing but a handshake and, without a credential, one GET has
/// reached the target.
#[derive(Clone, Debug, PartialEq)]
pub enum FirstContact {
    /// A known CA or a pin vouches for it; or it is http, and a setting lets it be so.
    Verified,
    /// It is http: nothing can vouch for it.
    Plain,
    /// Nothing does, and why; this pin could from now on.
    Pin { pin: Pin, cause: String },
    /// Pins exist and do not fit; this one would.
    Changed(Pin),
    /// Nothing does, and the policy (`upstream.unverified`) allows no pin.
    Unverified { cause: String },
}

impl Gateway {
    /// Asks over a connection of its own, never a pooled one. The path of `request` is sent as it is.
    pub async fn fetch(
        &self,
        route: &Route,
        target: &Target,
        request: http::Request<Bytes>,
        credential: Option<&Credential>,
    ) -> Result<Fetched> {
        let fetched =
            tokio::time::timeout(FETCH_TIME, self.fetch_slowly(route, target, request, credential)).await;
        fetched.unwrap_or_else(|_| Err(Error::HeaderTimeout { host: target.host.clone() }))
    }

    async fn fetch_slowly(
        &self,
        route: &Route,
        target: &Target,
        request: http::Request<Bytes>,
        credential: Option<&Credential>,
    ) -> Result<Fetched> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut headers = parts.headers;
        headers::toward_target(&mut headers, credential.and_then(Credential::authorization), false)?;
        self.upstream.pass_hop(&mut headers)?;
        let authority = target.authority();
        let request = Request {
            method: parts.method,
            scheme: None,
            authority,
            path,
            headers,
            framing: if body.is_empty() { Framing::None } else { Framing::Length(body.len() as u64) },
            upgrade: None,
            rewrite: None,
        };
        let dial = self.dial(route, target).await?;
        match self.upstream.session(&dial, Want::Fresh).await? {
            Session::H1 { mut stream, .. } => ask_h1(&mut stream, &request, body, &target.host).await,
            Session::H2 { mut lent, .. } => {
                let (outflow, opening) = lent.parts();
                let place = outflow.next_place(weight(&request.headers)).await;
                let (mut incoming, mut outgoing) =
                    send_head(opening, place, &request, &dial.authority, &target.host)?;
                if !body.is_empty() {
                    let sent = Sink::H2(&mut outgoing, outflow).data(body, true).await;
                    sent.map_err(|cause| Error::Protocol { host: target.host.clone(), cause })?;
                }
                collect(answers(Source::Target(&mut incoming), &request, &target.host)).await
            }
        }
    }

    /// Whom do we talk to? Sends no credential to find out.
    pub async fn first_contact(&self, route: &Route, target: &Target) -> Result<FirstContact> {
        let dial = self.dial(route, target).await?;
        if !target.tls {
            return match self.upstream.plaintext(&dial) {
                None => Ok(FirstContact::Verified),
                Some(Plaintext::Warn) => Ok(FirstContact::Plain),
                Some(Plaintext::Deny) => Err(Error::Plaintext { host: target.host.clone() }),
            };
        }
        let mut stream = self.unjudged(&dial).await?;
        let verdict = dial.anchors.as_ref().map(|anchors| anchors.judge(stream.ssl()));
        let stranger = match verdict {
            None | Some(Judgement::Trusted) => return Ok(FirstContact::Verified),
            Some(Judgement::Changed { .. }) => None,
            Some(Judgement::Unknown { cause })
                if self.parts.settings.load().upstream.unverified != Unverified::Pin =>
            {
                return Ok(FirstContact::Unverified { cause });
            }
            Some(Judgement::Unknown { cause }) => Some(cause),
        };
        let served: Vec<X509> =
            stream.ssl().peer_cert_chain().into_iter().flatten().map(ToOwned::to_owned).collect();
        let offered = cluster_info(&mut stream, target).await;
        let pin = trust::pin(target, route.server_name(target), &served, &offered);
        let pin = pin.ok_or_else(|| Error::Unverified {
            host: target.host.clone(),
            cause: "it presents no certificate".to_owned(),
        })?;
        Ok(match stranger {
            None => FirstContact::Changed(pin),
            Some(cause) => FirstContact::Pin { pin, cause },
        })
    }

    /// Resolved now, with what the Secrets give now.
    async fn dial(&self, route: &Route, target: &Target) -> Result<Dial> {
        let given = self
            .parts
            .credentials
            .certificates(route)
            .await
            .map_err(|error| grant::unusable(route, error))?;
        self.upstream.resolve(route, target, &given).await
    }

    async fn unjudged(&self, dial: &Dial) -> Result<SslStream<Socket>> {
        let settings = self.parts.settings.load_full();
        let deadline = Instant::now() + settings.timeouts.connect;
        self.upstream
            .reach(dial, &settings, deadline, |_, socket| self.upstream.tls(dial, socket, false))
            .await
    }
}

async fn ask_h1<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: &mut S,
    request: &Request,
    body: Bytes,
    host: &str,
) -> Result<Fetched> {
    let (mut buf, mut out, mut decoder) = (BytesMut::new(), BytesMut::new(), Decoder::Done);
    put_head(&mut out, request, &request.authority);
    out.extend_from_slice(&body);
    let sent = H1Sink { io: stream, out: &mut out, encoder: Encoder::None }.flush().await;
    sent.map_err(|error| Error::Unreachable { host: host.to_owned(), cause: error.kind().to_string() })?;
    let source = Source::H1(H1Source { io: stream, buf: &mut buf, decoder: &mut decoder, share: None });
    collect(answers(source, request, host)).await
}

fn answers<'a>(source: Source<'a>, request: &'a Request, host: &'a str) -> AnswerReader<'a> {
    AnswerReader {
        source,
        host,
        method: &request.method,
        taken: Taken::New,
        persistence: Persistence::KeepAlive,
        upgrade: false,
        share: None,
    }
}

async fn collect(mut answers: AnswerReader<'_>) -> Result<Fetched> {
    let host = answers.host.to_owned();
    let answer = loop {
        let answer = answers.head().await?;
        if !answer.status.is_informational() {
            break answer;
        }
    };
    let mut body = BytesMut::new();
    while answer.framing != Framing::None && body.len() < MAX_BODY {
        match answers.source.next().await {
            Ok(Frame::Data(data)) => {
                body.extend_from_slice(&data);
                answers.source.delivered(data.len());
            }
            Ok(Frame::Trailers(_) | Frame::End) => break,
            Err(cause) => return Err(Error::Protocol { host, cause }),
        }
    }
    body.truncate(MAX_BODY);
    Ok(Fetched { status: answer.status, headers: answer.headers, body: body.freeze() })
}

/// The CAs that a Kubernetes API server shows to everyone; none if it shows none.
async fn cluster_info(stream: &mut SslStream<Socket>, target: &Target) -> Vec<X509> {
    let Ok(path) = PathAndQuery::try_from(format!("{}{CLUSTER_INFO}", target.prefix)) else {
        return Vec::new();
    };
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
    let request = Request {
        method: Method::GET,
        scheme: None,
        authority: target.authority(),
        path,
        headers,
        framing: Framing::None,
        upgrade: None,
        rewrite: None,
    };
    match tokio::time::timeout(CLUSTER_INFO_TIME, ask_h1(stream, &request, Bytes::new(), &target.host)).await
    {
        Ok(Ok(fetched)) if fetched.status == StatusCode::OK => authorities(&fetched.body).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// `data.kubeconfig` of the ConfigMap holds one cluster with its CA.
fn authorities(body: &[u8]) -> Option<Vec<X509>> {
    let config_map: Value = serde_json::from_slice(body).ok()?;
    let text = config_map.pointer("/data/kubeconfig")?.as_str()?;
    // Nothing vouches for whoever has sent it.
    if !aliases::are_few(Deserializer::from_str(text), text.len()) {
        return None;
    }
    let kubeconfig: Value = serde_yaml_ng::from_str(text).ok()?;
    let pem = kubeconfig.pointer("/clusters/0/cluster/certificate-authority-data")?.as_str()?;
    X509::stack_from_pem(&STANDARD.decode(pem).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kubeconfig: &str) -> Option<usize> {
        let config_map = serde_json::json!({"data": {"kubeconfig": kubeconfig}}).to_string();
        authorities(config_map.as_bytes()).map(|found| found.len())
    }

    #[test]
    fn a_target_shows_its_ca_and_not_a_bomb() {
        let pem = STANDARD.encode(connectors_testenv::pki::Identity::root("target CA").pem());
        let cluster = format!("clusters:\n- name: ''\n  cluster: {{certificate-authority-data: {pem}}}\n");
        assert_eq!(shown(&cluster), Some(1));
        // Read, it would have 48 million values.
        let bomb = format!("a: &a [{}]\nb: [{}]\n{cluster}", "1,".repeat(8000), "*a,".repeat(6000));
        assert_eq!(shown(&bomb), None);
        assert_eq!(shown("clusters: []"), None);
        assert_eq!(shown(": :"), None);
    }
}
