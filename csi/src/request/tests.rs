//! One valid request, and what is refused when one thing in it is changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use tonic::Code;

use super::*;
use crate::proto::csi::VolumeCapability;
use crate::proto::csi::volume_capability::BlockVolume;

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

fn valid() -> NodePublishVolumeRequest {
    let context = [
        (EPHEMERAL, "true"),
        (POD_NAME, "job-1"),
        (POD_NAMESPACE, "demo"),
        (SERVICE_ACCOUNT, "default"),
        ("csi.storage.k8s.io/pod.uid", "u"),
        ("connector.name", "k8s-connector"),
        ("configuration.names", "kubeconfig"),
        (
            TOKENS,
            r#"{"connectors.alauda.io":{"token":"the.sa.token","expirationTimestamp":"2026-01-01T00:00:00Z"}}"#,
        ),
    ];
    NodePublishVolumeRequest {
        volume_id: "csi-1".into(),
        target_path: "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount".into(),
        volume_capability: Some(VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }),
        readonly: true,
        volume_context: context.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ..Default::default()
    }
}

fn set(request: &mut NodePublishVolumeRequest, key: &str, value: &str) {
    request.volume_context.insert(key.to_owned(), value.to_owned());
}

fn mount(request: &mut NodePublishVolumeRequest, change: impl Fn(&mut MountVolume)) {
    let mut mount = MountVolume::default();
    change(&mut mount);
    request.volume_capability = Some(VolumeCapability { access_type: Some(AccessType::Mount(mount)) });
}

fn token_issued_ago(age: u64) -> Token {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let payload = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{}}}"#, now - age));
    Token::take(
        &mut [(TOKENS.to_owned(), format!(r#"{{"connectors.alauda.io":{{"token":"e30.{payload}.sig"}}}}"#))]
            .into(),
        &mut Default::default(),
    )
    .ok()
    .unwrap()
}

#[test]
fn a_valid_request_is_taken_apart() {
    let request = check(valid()).ok().unwrap();
    assert_eq!(request.pod.user(), "system:serviceaccount:demo:default");
    assert_eq!(request.attributes.connectors[0].to_string(), "demo/k8s-connector");
    assert_eq!(request.token.secret().expose_secret(), "the.sa.token");
    assert_eq!((request.group, request.selinux.is_none()), (None, true));
}

#[test]
fn a_token_in_secrets_goes_before_one_in_the_context() {
    let mut wire = valid();
    wire.secrets.insert(TOKENS.into(), r#"{"connectors.alauda.io":{"token":"from.secrets"}}"#.into());
    assert_eq!(check(wire).ok().unwrap().token.secret().expose_secret(), "from.secrets");
}

#[test]
fn the_group_and_the_selinux_context_are_read() {
    let mut wire = valid();
    mount(&mut wire, |mount| {
        mount.volume_mount_group = "2000".into();
        mount.mount_flags = vec![r#"context="system_u:object_r:container_file_t:s0:c1,c2""#.into()];
    });
    let request = check(wire).ok().unwrap();
    assert_eq!((request.group, request.selinux.is_some()), (Some(2000), true));
}

#[test]
fn whatever_is_missing_or_wrong_is_refused_with_the_next_step() {
    type Change = fn(&mut NodePublishVolumeRequest);
    let cases: [(&str, Change, Code, &str); 22] = [
        ("volume id", |r| r.volume_id.clear(), Code::InvalidArgument, "volume_id is required"),
        ("target path", |r| r.target_path.clear(), Code::InvalidArgument, "target_path is required"),
        ("relative path", |r| r.target_path = "a/b".into(), Code::InvalidArgument, "must be absolute"),
        ("path with ..", |r| r.target_path = "/a/../b".into(), Code::InvalidArgument, "without \"..\""),
        ("root", |r| r.target_path = "/".into(), Code::InvalidArgument, "must be absolute"),
        (
            "capability",
            |r| r.volume_capability = None,
            Code::InvalidArgument,
            "volume_capability is required",
        ),
        (
            "block",
            |r| {
                r.volume_capability =
                    Some(VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})) })
            },
            Code::InvalidArgument,
            "a block volume cannot be had",
        ),
        (
            "not read-only",
            |r| r.readonly = false,
            Code::InvalidArgument,
            "requires all volume requests to set read-only to 'true'",
        ),
        ("not inline", |r| set(r, EPHEMERAL, "false"), Code::InvalidArgument, "inline volumes only"),
        (
            "no pod info",
            |r| drop(r.volume_context.remove(POD_NAME)),
            Code::FailedPrecondition,
            "podInfoOnMount",
        ),
        ("no namespace", |r| set(r, POD_NAMESPACE, ""), Code::FailedPrecondition, "pod.namespace"),
        (
            "no account",
            |r| drop(r.volume_context.remove(SERVICE_ACCOUNT)),
            Code::FailedPrecondition,
            "serviceAccount.name",
        ),
        (
            "no connector",
            |r| drop(r.volume_context.remove("connector.name")),
            Code::InvalidArgument,
            "connectors or connector.name is required",
        ),
        (
            "misspelt",
            |r| set(r, "connector.nmae", "x"),
            Code::InvalidArgument,
            "did you mean \"connector.name\"?",
        ),
        ("misspelt", |r| set(r, "configuration.name", "x"), Code::InvalidArgument, "\"configuration.names\""),
        (
            "broken JSON",
            |r| set(r, "configuration.params", "{"),
            Code::InvalidArgument,
            "configuration.params",
        ),
        ("expiration", |r| set(r, "token.expiration", "soon"), Code::InvalidArgument, "token.expiration"),
        ("no token", |r| drop(r.volume_context.remove(TOKENS)), Code::FailedPrecondition, "tokenRequests"),
        (
            "other audience",
            |r| set(r, TOKENS, r#"{"x":{"token":"t"}}"#),
            Code::FailedPrecondition,
            "connectors.alauda.io",
        ),
        (
            "broken tokens",
            |r| set(r, TOKENS, r#"{"connectors.alauda.io":"t"}"#),
            Code::FailedPrecondition,
            "tokenRequests",
        ),
        (
            "group",
            |r| mount(r, |m| m.volume_mount_group = "staff".into()),
            Code::InvalidArgument,
            "not a group id",
        ),
        (
            "option",
            |r| mount(r, |m| m.mount_flags = vec!["exec".into()]),
            Code::InvalidArgument,
            "\"exec\" is not supported",
        ),
    ];
    for (what, change, code, text) in cases {
        let mut wire = valid();
        change(&mut wire);
        let error = check(wire).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
    }
}

#[test]
fn attributes_of_others_are_ignored() {
    let mut wire = valid();
    set(&mut wire, "secretProviderClass", "x");
    assert!(check(wire).is_ok());
}

#[test]
fn a_volume_that_breaks_the_tokens_json_does_not_quote_it() {
    let mut wire = valid();
    set(&mut wire, TOKENS, r#"{"connectors.alauda.io":"very-secret"}"#);
    let error = check(wire).err().unwrap();
    assert!(!format!("{error} {error:?} {}", error.cause()).contains("very-secret"));
}

#[test]
fn a_tokens_age_is_read_from_the_token() {
    let limit = Duration::from_secs(600);
    assert!(!token_issued_ago(590).is_older_than(limit));
    assert!(token_issued_ago(620).is_older_than(limit));
}
