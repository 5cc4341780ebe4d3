//! The connector CA's objects in the API server: Secrets `connectors-ca` and `connectors-gateway-ca`,
//! ConfigMap `connectors-ca-bundle`. Every write is guarded by the version that was read, or is a create: two
//! controllers could not undo each other.

use std::collections::BTreeMap;

use connectors_api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Ref};

use super::mint::Authority;
use super::plan::{self, Bundle};
use crate::error::{Error, in_time};
use crate::reconcile::role::labelled;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const TLS_TYPE: &str = "kubernetes.io/tls";
/// On the bundle: fingerprint of the present root and when it came, `<hex> <RFC 3339>`.
const SINCE_ANNOTATION: &str = "connectors.cpaas.io/root-since";

pub struct Store {
    namespace: String,
    secrets: Api<Secret>,
    configmaps: Api<ConfigMap>,
}

impl Store {
    pub fn new(client: &Client, namespace: &str) -> Store {
        Store {
            namespace: namespace.into(),
            secrets: Api::namespaced(client.clone(), namespace),
            configmaps: Api::namespaced(client.clone(), namespace),
        }
    }

    /// # Errors
    /// When the Secret is there but unusable: it may be somebody's own root, so it is never overwritten.
    pub async fn root(&self) -> Result<Option<Authority>, Error> {
        let Some(secret) = self.secret(names::ROOT_CA_SECRET).await? else { return Ok(None) };
        let unusable = |cause: &str| {
            let name = names::ROOT_CA_SECRET;
            Error::Ca(format!("Secret {name} {cause}; correct it, or delete it to have a new root made"))
        };
        let root = authority(&secret).ok_or_else(|| unusable("holds no certificate with its key"))?;
        if root.certificate.pathlen() == Some(0) {
            return Err(unusable("holds a certificate whose path length forbids an intermediate CA"));
        }
        if plan::unix(root.certificate.not_after())? <= Timestamp::now().as_second() {
            return Err(unusable("has expired"));
        }
        Ok(Some(root))
    }

    /// Somebody else's create may win: then theirs is the root.
    pub async fn create_root(&self, (certificate, key): (X509, PKey<Private>)) -> Result<Authority, Error> {
        let secret = self.tls_secret(names::ROOT_CA_SECRET, certificate.to_pem()?, &key)?;
        let created = in_time(self.secrets.create(&by_us(), &secret)).await;
        match created.attempt(|| format!("create Secret {}", names::ROOT_CA_SECRET)) {
            Ok(_) => {
                tracing::info!("made a root for the connector CA in Secret {}", names::ROOT_CA_SECRET);
                Ok(Authority { certificate, key })
            }
            Err(error) if error.is_already_exists() => self
                .root()
                .await?
                .ok_or_else(|| Error::Ca(format!("Secret {} came and went", names::ROOT_CA_SECRET))),
            Err(error) => Err(error),
        }
    }

    /// The Secret and what it holds, if that is usable.
    pub async fn issuing(&self) -> Result<Option<(Secret, Option<Authority>)>, Error> {
        let secret = self.secret(names::ISSUING_CA_SECRET).await?;
        Ok(secret.map(|secret| {
            let issuing = authority(&secret);
            (secret, issuing)
        }))
    }

    /// Certificate and root in one chain, as the gateway serves it.
    pub async fn write_issuing(
        &self,
        over: Option<Secret>,
        issuing: &Authority,
        root: &X509Ref,
    ) -> Result<(), Error> {
        let chain = [issuing.certificate.to_pem()?, root.to_pem()?].concat();
        let secret = self.tls_secret(names::ISSUING_CA_SECRET, chain, &issuing.key)?;
        let name = names::ISSUING_CA_SECRET;
        let written = match over {
            None => in_time(self.secrets.create(&by_us(), &secret)).await,
            Some(old) => {
                let mut merged = Secret { data: secret.data, ..old };
                merged.labels_mut().extend(secret.metadata.labels.unwrap_or_default());
                in_time(self.secrets.replace(name, &by_us(), &merged)).await
            }
        };
        written.attempt(|| format!("write Secret {name}")).map(drop)
    }

    /// The ConfigMap and the bundle in it. Whatever cannot be read in it is dropped by the next publication.
    pub async fn bundle(&self) -> Result<Option<(ConfigMap, Bundle)>, Error> {
        let name = names::CA_BUNDLE_CONFIGMAP;
        let Some(object) =
            in_time(self.configmaps.get_opt(name)).await.attempt(|| format!("read ConfigMap {name}"))?
        else {
            return Ok(None);
        };
        let text = object
            .data
            .as_ref()
            .and_then(|data| data.get(names::CA_BUNDLE_KEY))
            .map(String::as_bytes)
            .unwrap_or_default();
        let roots: Result<Vec<_>, _> =
            X509::stack_from_pem(text).unwrap_or_default().iter().map(|root| root.to_pem()).collect();
        let noted = object.annotations().get(SINCE_ANNOTATION).and_then(|note| note.split_once(' '));
        let (current, since) = noted.map_or_else(Default::default, |(current, since)| {
            (current.to_owned(), since.parse().unwrap_or_default())
        });
        let bundle = Bundle { roots: roots?, current, since };
        Ok(Some((object, bundle)))
    }

    pub async fn publish(&self, over: Option<ConfigMap>, bundle: &Bundle) -> Result<(), Error> {
        let name = names::CA_BUNDLE_CONFIGMAP;
        let text = String::from_utf8_lossy(&bundle.roots.concat()).into_owned();
        let existed = over.is_some();
        let mut object = over.unwrap_or_else(|| ConfigMap {
            metadata: labelled(name, &self.namespace),
            ..ConfigMap::default()
        });
        object.data.get_or_insert_default().insert(names::CA_BUNDLE_KEY.into(), text);
        object
            .annotations_mut()
            .insert(SINCE_ANNOTATION.into(), format!("{} {}", bundle.current, bundle.since));
        let written = match existed {
            true => in_time(self.configmaps.replace(name, &by_us(), &object)).await,
            false => in_time(self.configmaps.create(&by_us(), &object)).await,
        };
        written.attempt(|| format!("write ConfigMap {name}"))?;
        tracing::info!(roots = bundle.roots.len(), "published the CA bundle in ConfigMap {name}");
        Ok(())
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>, Error> {
        in_time(self.secrets.get_opt(name)).await.attempt(|| format!("read Secret {name}"))
    }

    fn tls_secret(&self, name: &str, certificates: Vec<u8>, key: &PKey<Private>) -> Result<Secret, Error> {
        let data = [(CERTIFICATE, certificates), (KEY, key.private_key_to_pem_pkcs8()?)];
        Ok(Secret {
            metadata: labelled(name, &self.namespace),
            type_: Some(TLS_TYPE.into()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key.into(), ByteString(value)))
                    .collect::<BTreeMap<_, _>>(),
            ),
            ..Secret::default()
        })
    }
}

fn by_us() -> PostParams {
    PostParams { field_manager: Some(names::CONTROLLER.into()), ..PostParams::default() }
}

/// The first certificate of the Secret, if the key is its own.
fn authority(secret: &Secret) -> Option<Authority> {
    let data = secret.data.as_ref()?;
    let certificate = X509::from_pem(&data.get(CERTIFICATE)?.0).ok()?;
    let key = PKey::private_key_from_pem(&data.get(KEY)?.0).ok()?;
    let own = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
    own.then_some(Authority { certificate, key })
}
