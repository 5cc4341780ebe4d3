//! Third step: the credential's Secret exists, has the class's type and its keys. Sets SecretReady and
//! `status.credential`. Values are skipped while the answer is parsed; only type, key names and version are
//! kept.

use std::collections::BTreeMap;
use std::pin::pin;

use connectors_api::conditions::reason;
use connectors_api::connector::CredentialStatus;
use connectors_api::names::is_object_name;
use connectors_api::probe::Outcome;
use connectors_api::{Connector, ConnectorClass, rules};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::{Request, params::GetParams};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::context::Context;
use crate::error::{Attempt, Error, in_time};
use crate::status::{Findings, no, unknown, yes};

/// The API server stores at most 1.5 MiB; base64 and managedFields come on top.
const MAX_BYTES: u64 = 4 << 20;

/// A Secret without its values. `V` is `IgnoredAny` for credentials; `ca_cert` reads certificates.
#[derive(Deserialize)]
pub struct SecretShape<V> {
    pub metadata: Version,
    #[serde(rename = "type", default)]
    pub type_: String,
    #[serde(default = "BTreeMap::new")]
    pub data: BTreeMap<String, V>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub resource_version: String,
}

pub async fn check(
    context: &Context,
    connector: &Connector,
    class: &ConnectorClass,
    findings: &mut Findings,
) -> Result<(), Error> {
    let Some(name) = connector.spec.secret_ref().map(|reference| &reference.name) else {
        findings.secret = yes(reason::SECRET_OPTIONAL, "");
        return Ok(());
    };
    match read::<IgnoredAny>(&context.client, connector, name).await {
        Ok(Some(secret)) => {
            findings.secret = judge(connector, class, name, &secret);
            let version = CredentialStatus {
                secret_name: name.clone(),
                resource_version: secret.metadata.resource_version,
            };
            findings.credential = Some(version).filter(|_| crate::status::is_true(&findings.secret));
            Ok(())
        }
        Ok(None) => {
            findings.secret = no(reason::SECRET_NOT_FOUND, format!("secrets {name:?} not found"));
            Ok(())
        }
        // The API server did not say: what is in use stays in use.
        Err(error) => {
            findings.secret = unknown(reason::NOT_CHECKED, error.to_string());
            findings.credential = connector
                .status
                .clone()
                .unwrap_or_default()
                .credential
                .filter(|last| last.secret_name == *name);
            Err(error)
        }
    }
}

fn judge(
    connector: &Connector,
    class: &ConnectorClass,
    name: &str,
    secret: &SecretShape<IgnoredAny>,
) -> Outcome {
    let Some(auth) = rules::auth_type(connector, class) else { return yes("", "") };
    let fits = rules::check_secret_type(auth, name, &secret.type_, |key| secret.data.contains_key(key));
    fits.map_or_else(|violation| no(violation.reason, violation.message), |()| yes("", ""))
}

/// A Secret of the Connector's namespace, `None` if there is none.
pub async fn read<V: for<'a> Deserialize<'a>>(
    client: &Client,
    connector: &Connector,
    name: &str,
) -> Result<Option<SecretShape<V>>, Error> {
    // kube puts a name into the URL as it is: one with a `?` would ask for a list or a watch.
    if !is_object_name(name) {
        return Ok(None);
    }
    let namespace = connector.namespace().unwrap_or_default();
    match in_time(bounded(client, &namespace, name)).await {
        // Without the cause: it would quote what could not be read.
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .map_err(|_| kube::Error::Service("its answer cannot be read".into())),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
    .attempt(|| format!("read secret {name:?}"))
}

/// The answer as it came. kube's own parsing logs a text that it cannot parse, and this one holds
/// credentials.
async fn bounded(client: &Client, namespace: &str, name: &str) -> Result<Vec<u8>, kube::Error> {
    let secrets = Request::new(Secret::url_path(&(), Some(namespace)));
    let request = secrets.get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    let mut json = Vec::new();
    let mut answer = pin!(client.request_stream(request).await?.take(MAX_BYTES + 1));
    answer.read_to_end(&mut json).await.map_err(kube::Error::ReadEvents)?;
    if json.len() as u64 > MAX_BYTES {
        return Err(kube::Error::Service(format!("the answer is longer than {MAX_BYTES} bytes").into()));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An API server that gives each request the same answer: `body`, as often as the client takes it.
    async fn answering(body: &'static str, times: usize) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                let mut written = stream.write_all(head.as_bytes()).await;
                for _ in 0..times {
                    written = if written.is_ok() { stream.write_all(body.as_bytes()).await } else { break };
                }
            }
        });
        Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    async fn outcome(body: &'static str, times: usize, name: &str) -> String {
        let connector = json!({"metadata": {"name": "c", "namespace": "demo"}, "spec": {}});
        let connector = serde_json::from_value(connector).unwrap();
        match read::<IgnoredAny>(&answering(body, times).await, &connector, name).await {
            Ok(secret) => secret.map_or("none".to_owned(), |_| "read".to_owned()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_bounded_and_what_cannot_be_read_of_it_is_not_quoted() {
        const SECRET: &str = r#"{"metadata": {"resourceVersion": "1"}, "data": {"token": "aHVudGVyMg=="}}"#;
        for (body, times, name, expected) in [
            (SECRET, 1, "s", "read"),
            (SECRET, 1, "s?watch=true", "none"),
            (SECRET, 1, "", "none"),
            (SECRET, usize::MAX, "s", "cannot read secret \"s\": the answer is longer than 4194304 bytes"),
            (r#"{"metadata": "hunter2"}"#, 1, "s", "cannot read secret \"s\": its answer cannot be read"),
        ] {
            assert_eq!(outcome(body, times, name).await, expected);
        }
    }
}
