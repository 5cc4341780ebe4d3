//! First stage of a mount: everything that can be refused without asking anybody. `node` calls it with
//! kubelet's request, `inputs` goes on with what it returns. The request itself is never formatted: it may
//! hold tokens.

mod token;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use connectors_api::attributes::{self, VolumeAttributes};
use connectors_api::names;

use crate::error::Error;
use crate::mount::SelinuxContext;
use crate::proto::csi::volume_capability::AccessType;
use crate::proto::csi::volume_capability::MountVolume;
use crate::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};

pub use token::Token;

const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const POD_NAME: &str = "csi.storage.k8s.io/pod.name";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const SERVICE_ACCOUNT: &str = "csi.storage.k8s.io/serviceAccount.name";

/// More than anybody needs, and little beside what files may take.
const MAX_ATTRIBUTES: usize = 32 << 10;
/// Bytes that a request takes for one of its attributes, while it waits.
const ATTRIBUTE: usize = 3;

/// A mount that may be tried.
pub struct PublishRequest {
    pub target: PathBuf,
    pub pod: Pod,
    pub attributes: VolumeAttributes,
    pub token: Token,
    /// The Pod's fsGroup.
    pub group: Option<u32>,
    pub selinux: Option<SelinuxContext>,
    /// Bytes of memory.
    pub weight: usize,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub service_account: String,
}

impl Pod {
    /// `system:serviceaccount:<ns>:<name>`.
    pub fn user(&self) -> String {
        names::service_account_user(&self.namespace, &self.service_account)
    }
}

/// Takes a request apart; nothing was done yet when it fails.
pub fn check(mut wire: NodePublishVolumeRequest) -> Result<PublishRequest, Error> {
    let target = volume(&wire.volume_id, &wire.target_path)?;
    let access = wire.volume_capability.and_then(|capability| capability.access_type);
    let mount = match access.ok_or(Error::Missing("volume_capability"))? {
        AccessType::Mount(mount) => mount,
        AccessType::Block(_) => return Err(Error::Block),
    };
    if !wire.readonly {
        return Err(Error::NotReadOnly);
    }
    let token = Token::take(&mut wire.secrets, &mut wire.volume_context);
    let context: BTreeMap<String, String> = wire.volume_context.into_iter().collect();
    let size: usize = context.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ATTRIBUTES {
        return Err(Error::LargeAttributes { has: size.div_ceil(1024), most: MAX_ATTRIBUTES / 1024 });
    }
    let pod = pod(&context)?;
    let attributes = attributes::parse(&context, &pod.namespace)?;
    Ok(PublishRequest {
        target,
        pod,
        attributes,
        group: group(&mount)?,
        selinux: selinux(&mount)?,
        token: token?,
        weight: ATTRIBUTE * size,
    })
}

/// The target path of an unpublish.
pub fn check_unpublish(wire: &NodeUnpublishVolumeRequest) -> Result<PathBuf, Error> {
    volume(&wire.volume_id, &wire.target_path)
}

/// The target path of a volume, which names it on this node.
pub fn volume(id: &str, target: &str) -> Result<PathBuf, Error> {
    if id.is_empty() {
        return Err(Error::Missing("volume_id"));
    }
    if target.is_empty() {
        return Err(Error::Missing("target_path"));
    }
    let path = Path::new(target);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let valid = path.is_absolute() && plain && path.file_name().is_some();
    valid.then(|| path.to_owned()).ok_or_else(|| Error::TargetPath(path.to_owned()))
}

fn pod(context: &BTreeMap<String, String>) -> Result<Pod, Error> {
    let get = |key: &'static str| {
        context.get(key).filter(|value| !value.is_empty()).cloned().ok_or(Error::PodInfo(key))
    };
    if get(EPHEMERAL)? != "true" {
        return Err(Error::NotInline);
    }
    Ok(Pod { namespace: get(POD_NAMESPACE)?, name: get(POD_NAME)?, service_account: get(SERVICE_ACCOUNT)? })
}

fn group(mount: &MountVolume) -> Result<Option<u32>, Error> {
    match mount.volume_mount_group.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::MountGroup(text.to_owned())),
    }
}

/// The only mount option that kubelet adds to an inline volume is its SELinux context.
fn selinux(mount: &MountVolume) -> Result<Option<SelinuxContext>, Error> {
    let mut context = None;
    for option in &mount.mount_flags {
        context = Some(SelinuxContext::parse(option).ok_or_else(|| Error::MountOption(option.clone()))?);
    }
    Ok(context)
}

#[cfg(test)]
mod tests;
