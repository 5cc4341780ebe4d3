//! Second stage of a mount: what the cluster knows. Connectors, their classes, whether the Pod may use them,
//! the connector CA. `request` comes before; `render` makes files of what this returns. Only get and
//! SubjectAccessReview, no list, no watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use connectors_api::conditions::{self, READY};
use connectors_api::item::{Item, MAX_CONNECTOR};
use connectors_api::names::{CA_BUNDLE_CONFIGMAP, CA_BUNDLE_KEY, GATEWAY, is_object_name};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::{Connector, ConnectorClass, rules};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::access;
use crate::error::Error;
use crate::request::{Pod, PublishRequest};
use crate::settings::Settings;

/// For all questions of one publish together, with what each connector adds to it; kubelet waits two minutes.
const DEADLINE: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_secs(2);

/// What `render` works from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// In the Pod's order; never empty.
    pub connectors: Vec<VolumeConnector>,
    /// PEM of the CAs that clients of the gateway trust.
    pub ca_bundle: String,
    pub cluster_domain: String,
    /// Of this cluster, as its Pods are told it.
    pub api_server: Option<String>,
}

impl Inputs {
    pub fn connector(&self, reference: &ConnectorRef) -> Option<&VolumeConnector> {
        self.connectors.iter().find(|known| known.reference == *reference)
    }
}

/// Inputs, and what is in the way of newer ones.
pub struct Gathered {
    pub inputs: Inputs,
    /// Why a part of the inputs is that of an earlier publish; the first of several.
    pub stale: Option<Error>,
}

#[derive(Clone, Debug)]
pub struct VolumeConnector {
    pub reference: ConnectorRef,
    pub connector: Connector,
    pub class: Arc<ConnectorClass>,
}

impl VolumeConnector {
    /// `status.proxy.httpAddress.url`; absent when the class has no proxy.
    pub fn proxy_address(&self) -> Option<&str> {
        self.connector.status.as_ref()?.proxy.as_ref()?.http_address.as_ref()?.url.as_deref()
    }

    /// Whoever may edit Services of another namespace must not get what a Pod of this one sends to its
    /// connector's: a token that opens the Pod's own connectors too. So the proxy is named by the Service that its
    /// class names, which is an operator's, or the gateway's.
    fn reach_directly(&mut self, namespace: &str, cluster_domain: &str) {
        let service = self.class.spec.proxy.as_ref().and_then(|proxy| proxy.ref_.as_ref());
        let name = service.map_or(GATEWAY, |service| service.name.as_str());
        let namespace = service.and_then(|service| service.namespace.as_deref()).unwrap_or(namespace);
        let address = self.connector.status.as_mut().and_then(|status| status.proxy.as_mut());
        if let Some(url) = address.and_then(|proxy| proxy.http_address.as_mut()?.url.as_mut()) {
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            let path = rest.find('/').map_or("", |at| &rest[at..]);
            *url = format!("http://{name}.{namespace}.svc.{cluster_domain}{path}");
        }
    }
}

/// The API server, as far as the driver may use it.
pub struct Cluster {
    client: Client,
    settings: Settings,
}

impl Cluster {
    pub fn new(client: Client, settings: Settings) -> Cluster {
        Cluster { client, settings }
    }

    /// Asks everything for one publish. `published`: the Pod has files already. Then permission and readiness
    /// are not asked again (the gateway judges each request), so that a failing probe cannot keep a running
    /// Pod from its next token. What becomes a part of files is checked each time; what does not pass, or is
    /// gone, stays as it was in `last`, so that one connector's trouble keeps no other's files from being renewed.
    pub async fn gather(
        &self,
        request: &PublishRequest,
        published: bool,
        last: Option<&Inputs>,
    ) -> Result<Gathered, Error> {
        let connectors = request.attributes.connectors.iter();
        let deadline = connectors.fold(DEADLINE, |all, _| all + EACH);
        let asked = tokio::time::timeout(deadline, self.ask(request, published, last)).await;
        match (asked, last) {
            (Ok(answer), _) => answer,
            (Err(_), Some(last)) => {
                Ok(Gathered { inputs: last.clone(), stale: Some(Error::Deadline(deadline)) })
            }
            (Err(_), None) => Err(Error::Deadline(deadline)),
        }
    }

    async fn ask(
        &self,
        request: &PublishRequest,
        published: bool,
        last: Option<&Inputs>,
    ) -> Result<Gathered, Error> {
        let mut stale = None;
        let mut classes = Classes {
            api: Api::all(self.client.clone()),
            known: BTreeMap::new(),
            namespace: &request.pod.namespace,
            settings: &self.settings,
        };
        let references = &request.attributes.connectors;
        let mut connectors = Vec::with_capacity(references.len());
        // One after the other: what a tenant wrote into one is megabytes while it is read.
        for reference in references {
            let whole = match self.usable(&request.pod, reference, published).await {
                Ok(connector) => classes.with_class(reference, connector).await,
                Err(error) => Err(error),
            };
            let known = last.and_then(|last| last.connector(reference)).cloned();
            connectors.push(or_known(whole, known, &mut stale)?);
        }
        let (ca_bundle, known) = (self.ca_bundle().await, last.map(|last| last.ca_bundle.clone()));
        let inputs = Inputs {
            connectors,
            ca_bundle: or_known(ca_bundle, known, &mut stale)?,
            cluster_domain: self.settings.cluster_domain.clone(),
            api_server: self.settings.kubernetes_service_host.clone(),
        };
        Ok(Gathered { inputs, stale })
    }

    async fn usable(&self, pod: &Pod, reference: &ConnectorRef, published: bool) -> Result<Connector, Error> {
        let api = Api::<Item<Connector>>::namespaced(self.client.clone(), &reference.namespace);
        let found = get(&api, &reference.name).await?.map(|found| found.bounded(MAX_CONNECTOR));
        let connector = read(reference, "it", self.admit(pod, reference, found, published).await?)?;
        if !published {
            check_ready(reference, &connector)?;
        }
        check_observed(reference, &connector)?;
        Ok(connector)
    }

    async fn ca_bundle(&self) -> Result<String, Error> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.settings.namespace);
        let bundle = get(&api, CA_BUNDLE_CONFIGMAP).await?.and_then(|map| map.data?.remove(CA_BUNDLE_KEY));
        let missing = || Error::NoCaBundle(format!("{}/{CA_BUNDLE_CONFIGMAP}", self.settings.namespace));
        bundle.filter(|pem| !pem.trim().is_empty()).ok_or_else(missing)
    }

    /// Existing connectors, and for a first publish only allowed ones.
    async fn admit(
        &self,
        pod: &Pod,
        reference: &ConnectorRef,
        connector: Option<Item<Connector>>,
        published: bool,
    ) -> Result<Item<Connector>, Error> {
        let not_found = || Error::ConnectorNotFound(reference.clone());
        if published {
            return connector.ok_or_else(not_found);
        }
        // In another namespace, whether a connector exists is told only to those who may use it.
        if connector.is_some() || reference.namespace != pod.namespace {
            self.check_access(pod, reference).await?;
        }
        connector.ok_or_else(not_found)
    }

    async fn check_access(&self, pod: &Pod, connector: &ConnectorRef) -> Result<(), Error> {
        let allowed = access::may_use(&self.client, pod, connector, self.settings.get_is_use).await;
        match allowed.map_err(|source| api_error(format!("who may use connector {connector}"), source))? {
            true => Ok(()),
            false => {
                let account = format!("{}/{}", pod.namespace, pod.service_account);
                Err(Error::NotAllowed { account, connector: connector.clone() })
            }
        }
    }
}

/// What was asked for; else what is known, and why it is no newer.
fn or_known<T>(asked: Result<T, Error>, known: Option<T>, stale: &mut Option<Error>) -> Result<T, Error> {
    match (asked, known) {
        (Err(error), Some(known)) => {
            stale.get_or_insert(error);
            Ok(known)
        }
        (asked, _) => asked,
    }
}

/// Each class is asked for once.
struct Classes<'a> {
    api: Api<Item<ConnectorClass>>,
    known: BTreeMap<String, Arc<ConnectorClass>>,
    /// The Pod's.
    namespace: &'a str,
    settings: &'a Settings,
}

impl Classes<'_> {
    async fn with_class(
        &mut self,
        reference: &ConnectorRef,
        connector: Connector,
    ) -> Result<VolumeConnector, Error> {
        let name = &connector.spec.connector_class_name;
        let class = match self.known.get(name) {
            Some(class) => Arc::clone(class),
            None => Arc::new(class(&self.api, reference, name).await?),
        };
        self.known.insert(name.clone(), Arc::clone(&class));
        let fits = rules::check_connector(&connector, &class);
        fits.map_err(|broken| Error::ConnectorNotReady {
            connector: reference.clone(),
            reason: broken.message,
        })?;
        let mut mounted =
            check_proxy_address(VolumeConnector { reference: reference.clone(), connector, class })?;
        if reference.namespace != self.namespace {
            mounted.reach_directly(&self.settings.namespace, &self.settings.cluster_domain);
        }
        Ok(mounted)
    }
}

async fn class(
    api: &Api<Item<ConnectorClass>>,
    connector: &ConnectorRef,
    name: &str,
) -> Result<ConnectorClass, Error> {
    let not_found = || Error::ClassNotFound { connector: connector.clone(), class: name.to_owned() };
    // The name becomes a part of the URL, and nobody but the controller checked it.
    if !is_object_name(name) {
        return Err(not_found());
    }
    read(connector, "its class", get(api, name).await?.ok_or_else(not_found)?)
}

/// An object whose JSON is no Connector or class is its owner's to mend.
fn read<K: Clone>(connector: &ConnectorRef, what: &str, item: Item<K>) -> Result<K, Error> {
    item.into_read().map(Arc::unwrap_or_clone).map_err(|unreadable| {
        let reason = format!("{what} cannot be read: {}", unreadable.error);
        Error::ConnectorNotReady { connector: connector.clone(), reason }
    })
}

/// What the controller has not judged yet goes into no file.
fn check_observed(reference: &ConnectorRef, connector: &Connector) -> Result<(), Error> {
    let observed = connector.status.as_ref().and_then(|status| status.observed_generation);
    match observed == connector.metadata.generation {
        true => Ok(()),
        false => {
            let reason = "its latest change was not checked yet; is the controller running?".to_owned();
            Err(Error::ConnectorNotReady { connector: reference.clone(), reason })
        }
    }
}

/// With the reason and message of the `Ready` condition, which are those of the first condition that is not
/// True.
fn check_ready(reference: &ConnectorRef, connector: &Connector) -> Result<(), Error> {
    let conditions = connector.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = conditions::find(conditions, READY);
    if ready.is_some_and(conditions::Condition::is_true) {
        return Ok(());
    }
    let told = ready.map(|ready| [ready.reason.as_deref(), ready.message.as_deref()].into_iter().flatten());
    let told = told
        .map(|parts| parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": "))
        .unwrap_or_default();
    let reason =
        if told.is_empty() { "it was not checked yet; is the controller running?".to_owned() } else { told };
    Err(Error::ConnectorNotReady { connector: reference.clone(), reason })
}

/// It becomes a part of files. A `VolumeConnector` of a class without proxy needs none.
fn check_proxy_address(mounted: VolumeConnector) -> Result<VolumeConnector, Error> {
    if mounted.class.spec.proxy.is_some() && mounted.proxy_address().is_none() {
        let reason = "its status has no proxy address yet".to_owned();
        return Err(Error::ConnectorNotReady { connector: mounted.reference, reason });
    }
    if !mounted.proxy_address().is_none_or(rules::is_printable) {
        let reason = "the proxy address in its status has characters that cannot be printed".to_owned();
        return Err(Error::ConnectorNotReady { connector: mounted.reference, reason });
    }
    Ok(mounted)
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    api.get_opt(name)
        .await
        .map_err(|source| api_error(format!("{} {name:?}", K::kind(&()).to_lowercase()), source))
}

fn api_error(what: String, source: kube::Error) -> Error {
    Error::Api { what, source: Box::new(source) }
}
