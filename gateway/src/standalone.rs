//! Without a cluster: the same resources from YAML files, clients by the tokens of a file, the issuing CA
//! from files. It stands where `cluster` stands: behind `Reviews` and `Secrets`, feeding the same table.
//! Files are read once, at start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use connectors_api::connector::CredentialStatus;
use connectors_api::item::Item;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::{Connector, ConnectorClass};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use openssl::sha::sha256;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_yaml_ng::Value;

use crate::gateway::Parts;
use crate::home::cluster::{self, Question, Reviews, SecretContent, SecretError, Secrets, SigningKeys};
use crate::home::principal::{PodRef, Principal};
use crate::home::remembered::Away;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::Builder;
use crate::table::watch::Publisher;
use crate::tls::issuer::Issuer;

/// Where everything is. The CA files are PEM: the certificate of an issuing CA first, then what is above it.
#[derive(Clone, Debug)]
pub struct Files {
    /// Folder of `*.yaml`, `*.yml` and `*.json` with Connectors, ConnectorClasses and Secrets.
    pub manifests: PathBuf,
    /// YAML list of `Client`.
    pub clients: PathBuf,
    pub ca_certificate: PathBuf,
    pub ca_key: PathBuf,
}

/// Who may log in, with what, and which connectors it may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    #[serde(deserialize_with = "secret")]
    pub token: SecretString,
    /// User name, e.g. `system:serviceaccount:demo:default`.
    pub user: String,
    /// `<namespace>/<name>` of the Pod that the token stands for.
    #[serde(default)]
    pub pod: Option<String>,
    /// `<namespace>/<name>` of each connector that it may use.
    #[serde(default)]
    pub connectors: Vec<String>,
}

/// Cheap to clone; clones share their content.
#[derive(Clone)]
pub struct Standalone {
    objects: Arc<Mutex<Objects>>,
    clients: Arc<Vec<Client>>,
    publisher: Publisher,
}

struct Objects {
    builder: Builder,
    secrets: BTreeMap<ConnectorRef, Secret>,
    connectors: BTreeMap<ConnectorRef, Connector>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

impl Files {
    pub fn load(
        &self,
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Parts, Standalone)> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let clients: Vec<Client> = serde_yaml_ng::from_slice(&read(&self.clients)?)
            .map_err(|error| anyhow!("{} is no list of clients{}", self.clients.display(), place(&error)))?;
        let issuer = Issuer::parse(&read(&self.ca_certificate)?, &read(&self.ca_key)?)?;
        let (parts, standalone) = Standalone::start(settings, metrics, clients)?;
        parts.issuer.store(Some(Arc::new(issuer)));
        for path in manifests(&self.manifests)? {
            standalone
                .apply(&String::from_utf8(read(&path)?)?)
                .with_context(|| format!("reading {}", path.display()))?;
        }
        Ok((parts, standalone))
    }
}

/// The library's own text is left out: it quotes what it could not read, which may be a token.
fn place(error: &serde_yaml_ng::Error) -> String {
    error
        .location()
        .map_or_else(String::new, |at| format!(": look at line {}, column {}", at.line(), at.column()))
}

fn manifests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    });
    paths.sort();
    Ok(paths)
}

impl Standalone {
    /// Parts without objects and without an issuer: `apply` and `parts.issuer` add them.
    pub fn start(
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
        clients: Vec<Client>,
    ) -> anyhow::Result<(Parts, Standalone)> {
        let objects = Objects {
            builder: Builder::new("cluster.local", connectors_api::names::SYSTEM_NAMESPACE),
            secrets: BTreeMap::new(),
            connectors: BTreeMap::new(),
        };
        let publisher = Publisher {
            table: Arc::default(),
            synced: Arc::default(),
            watches: Arc::default(),
            metrics: metrics.clone(),
            connectors: settings.load().metrics.connectors,
        };
        let standalone = Standalone {
            objects: Arc::new(Mutex::new(objects)),
            clients: Arc::new(clients),
            publisher: publisher.clone(),
        };
        let seam = Arc::new(standalone.clone());
        let parts = Parts { table: publisher.table, ..Parts::new(settings, seam.clone(), seam, metrics)? };
        Ok((parts, standalone))
    }

    /// Creates or replaces the objects of a YAML text and rebuilds the table. Other kinds are passed over.
    pub fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        let mut objects = self.objects();
        for (index, document) in serde_yaml_ng::Deserializer::from_str(manifests).enumerate() {
            let number = index + 1;
            let value = Value::deserialize(document);
            let value = value.map_err(|error| anyhow!("document {number} is no YAML{}", place(&error)))?;
            if !value.is_null() {
                objects.put(value).with_context(|| format!("document {number}"))?;
            }
        }
        objects.observe_secrets();
        self.publisher.publish(&mut objects.builder);
        Ok(())
    }

    /// True once a table is there.
    pub fn synced(&self) -> Arc<std::sync::atomic::AtomicBool> {
        self.publisher.synced.clone()
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects {
    fn put(&mut self, value: Value) -> anyhow::Result<()> {
        let kind = value.get("kind").and_then(Value::as_str).context("a manifest without kind")?.to_owned();
        match kind.as_str() {
            "Connector" => {
                let connector: Connector = serde_yaml_ng::from_value(value).context("a Connector")?;
                self.connectors.insert(reference(&connector)?, connector);
            }
            "ConnectorClass" => {
                let mut class: ConnectorClass =
                    serde_yaml_ng::from_value(value).context("a ConnectorClass")?;
                class.metadata.resource_version = Some(version(&class.spec)?);
                self.builder.put_class(Item::from(class));
            }
            "Secret" => {
                let secret = serde_yaml_ng::from_value(value);
                let mut secret: Secret =
                    secret.map_err(|_| anyhow!("a Secret whose fields are not a Secret's"))?;
                let written = secret.string_data.take().unwrap_or_default().into_iter();
                secret
                    .data
                    .get_or_insert_default()
                    .extend(written.map(|(key, value)| (key, ByteString(value.into_bytes()))));
                secret.metadata.resource_version = Some(version(&secret.data)?);
                self.secrets.insert(reference(&secret)?, secret);
            }
            _ => tracing::warn!(kind, "manifest passed over"),
        }
        Ok(())
    }

    /// Stands in for the controller: says in each status which version of its Secrets there is.
    fn observe_secrets(&mut self) {
        for (name, connector) in &self.connectors {
            let mut connector = connector.clone();
            let secret = |name: &str, of: &ConnectorRef| {
                let key = ConnectorRef { namespace: of.namespace.clone(), name: name.to_owned() };
                self.secrets.get(&key).and_then(|secret| secret.metadata.resource_version.clone())
            };
            let credential = connector.spec.secret_ref().and_then(|reference| {
                let resource_version = secret(&reference.name, name)?;
                Some(CredentialStatus { secret_name: reference.name.clone(), resource_version })
            });
            let ca = connector.spec.ca_secret().and_then(|ca| secret(ca, name));
            let status = connector.status.get_or_insert_default();
            status.credential = credential;
            status.trust.get_or_insert_default().ca_resource_version = ca;
            connector.metadata.uid.get_or_insert_with(|| name.to_string());
            connector.metadata.resource_version =
                version(&(&connector.spec, &connector.status, &connector.metadata.annotations)).ok();
            self.builder.put_connector(Item::from(connector));
        }
    }
}

fn reference<K: ResourceExt>(object: &K) -> anyhow::Result<ConnectorRef> {
    let name = object.name_any();
    if name.is_empty() {
        bail!("a manifest without metadata.name");
    }
    Ok(ConnectorRef { namespace: object.namespace().unwrap_or_else(|| "default".to_owned()), name })
}

/// A version that changes with the content.
fn version(content: &impl serde::Serialize) -> anyhow::Result<String> {
    let digest = sha256(&serde_json::to_vec(content)?);
    Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[async_trait]
impl Reviews for Standalone {
    async fn token(
        &self,
        token: &SecretString,
        _audience: &str,
        _expires: Option<SystemTime>,
    ) -> Result<Option<Principal>, Away> {
        let given = sha256(token.expose_secret().as_bytes());
        // Digests are compared, so that the time it takes says nothing of the token.
        let client =
            self.clients.iter().find(|client| sha256(client.token.expose_secret().as_bytes()) == given);
        Ok(client.map(principal))
    }

    async fn access(&self, principal: &Principal, question: &Question) -> Result<bool, Away> {
        let connector = question.connector.to_string();
        let client = self.clients.iter().find(|client| *client.user == *principal.user);
        Ok(client.is_some_and(|client| client.connectors.contains(&connector)))
    }

    async fn signing_keys(&self) -> Result<Option<SigningKeys>, Away> {
        Ok(None)
    }
}

#[async_trait]
impl Secrets for Standalone {
    async fn get(&self, namespace: &str, name: &str) -> Result<SecretContent, SecretError> {
        let key = ConnectorRef { namespace: namespace.to_owned(), name: name.to_owned() };
        self.objects().secrets.get(&key).cloned().map(cluster::content).ok_or(SecretError::NotFound)
    }
}

fn principal(client: &Client) -> Principal {
    let pod = client.pod.as_deref().and_then(|pod| pod.split_once('/')).map(|(namespace, name)| PodRef {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("{namespace}/{name}").into(),
    });
    Principal {
        user: client.user.as_str().into(),
        uid: "".into(),
        groups: Arc::new([]),
        pod,
        expires: cluster::far_future(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::authenticate::{Identity, Rejection};
    use crate::admit::authorize::Verdict;
    use crate::table::route::Entry;

    const OBJECTS: &str = r#"
kind: ConnectorClass
apiVersion: connectors.alauda.io/v1alpha1
metadata: {name: k8s}
spec: {auth: {types: [{name: bearerTokenAuth, secretType: connectors.cpaas.io/bearer-token}]}}
---
kind: Connector
apiVersion: connectors.alauda.io/v1alpha1
metadata: {namespace: demo, name: k8s}
spec: {connectorClassName: k8s, address: "https://target:6443", auth: {name: bearerTokenAuth, secretRef: {name: s}}}
---
kind: Secret
apiVersion: v1
metadata: {namespace: demo, name: s}
type: connectors.cpaas.io/bearer-token
stringData: {token: TOKEN}
"#;

    fn start() -> (Parts, Standalone) {
        let client = Client {
            token: "letmein".into(),
            user: "system:serviceaccount:demo:default".into(),
            pod: Some("demo/p".into()),
            connectors: vec!["demo/k8s".into()],
        };
        let (parts, standalone) =
            Standalone::start(Arc::default(), Arc::new(Metrics::new().unwrap()), vec![client]).unwrap();
        standalone.apply(OBJECTS).unwrap();
        (parts, standalone)
    }

    fn k8s() -> ConnectorRef {
        ConnectorRef { namespace: "demo".into(), name: "k8s".into() }
    }

    async fn authorization(parts: &Parts) -> String {
        let table = parts.table.load();
        let Some(Entry::Usable(route)) = table.lookup(&k8s()) else { panic!("no route") };
        let credential = parts.credentials.get(route).await.unwrap();
        String::from_utf8(credential.authorization().unwrap().as_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_client_of_the_file_reaches_its_connector_and_no_other() {
        let (parts, _) = start();
        let Ok(Identity::Valid(principal)) = parts.authenticator.authenticate(&"letmein".into()).await else {
            panic!("not valid")
        };
        assert_eq!(parts.authorizer.may_use(&principal, &k8s()).await, Ok(Verdict::Allowed));
        let other = ConnectorRef { name: "other".into(), ..k8s() };
        assert_eq!(
            parts.authorizer.may_use(&principal, &other).await,
            Ok(Verdict::Denied { may_get: false })
        );
        let stranger = parts.authenticator.authenticate(&"guess".into()).await;
        assert!(matches!(stranger, Err(Rejection::Invalid(_))));
    }

    #[tokio::test]
    async fn a_changed_secret_is_a_new_version_and_a_new_credential() {
        let (parts, standalone) = start();
        assert_eq!(authorization(&parts).await, "Bearer TOKEN");
        standalone.apply(&OBJECTS.replace("TOKEN", "ROTATED")).unwrap();
        assert_eq!(authorization(&parts).await, "Bearer ROTATED");
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place_and_never_quoted() {
        let (_, standalone) = start();
        for broken in [
            "stringData: hunter2",
            "data: {token: [hunter2]}",
            "stringData: {token: 'hunter2",
            "type: {hunter2: 1}",
        ] {
            let manifests = OBJECTS.replace("stringData: {token: TOKEN}", broken);
            let error = format!("{:#}", standalone.apply(&manifests).unwrap_err());
            assert!(error.contains("document 3") && !error.contains("hunter2"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let clients = folder.path().join("clients.yaml");
        let path = || folder.path().to_owned();
        for broken in [
            "hunter2",
            "- hunter2",
            "- {token: [hunter2], user: u}",
            "- {token: t, user: u, pod: {hunter2: 1}}",
        ] {
            std::fs::write(&clients, broken).unwrap();
            let files =
                Files { manifests: path(), clients: clients.clone(), ca_certificate: path(), ca_key: path() };
            let refused = files.load(Arc::default(), Arc::new(Metrics::new().unwrap())).err().unwrap();
            let error = format!("{refused:#}");
            assert!(
                error.contains("clients.yaml is no list of clients") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_missing_secret_makes_the_connector_unusable() {
        let (parts, standalone) = start();
        standalone.apply(&OBJECTS.replace("secretRef: {name: s}", "secretRef: {name: gone}")).unwrap();
        assert!(matches!(parts.table.load().lookup(&k8s()), Some(Entry::Unusable { .. })));
    }
}
