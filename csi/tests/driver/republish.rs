//! Kubelet repeats each publish every 60–90 s while the Pod runs: tokens are renewed in place, and nothing
//! may harm the Pod.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustix::mount::{MountFlags, mount_remount};
use serde_json::json;
use tonic::Code;

use crate::cluster::{Demo, cluster};
use crate::kubelet::Kubelet;
use crate::namespace::isolated;

/// The driver does not verify tokens: kubelet vouches for them.
fn token_issued_at(seconds: u64) -> String {
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{seconds}}}"#)))
}

#[test]
fn a_new_token_replaces_the_old_one_in_the_same_mount() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("renewed").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        let mounts = volume.mounts();
        volume.token = "the.second.token".into();
        kubelet.publish(&volume).await.unwrap();
        assert_eq!(volume.read("context.token"), "the.second.token");
        assert!(volume.read("kubeconfig").contains("%2Fk8s:the.second.token@"));
        assert_eq!(volume.mounts(), mounts, "the container sees the mount of the first publish");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn an_unchanged_token_needs_no_question_and_of_a_connector_that_is_gone_the_token_is_renewed() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("kept").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        demo.delete_connector("k8s").await;
        kubelet
            .publish(&volume)
            .await
            .expect("nobody was asked, so nobody could say that the connector is gone");

        volume.token = "the.second.token".into();
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(
            refusal.code(),
            Code::Unavailable,
            "a final code lets kubelet remove the folder: {refusal}"
        );
        assert!(
            refusal.message().contains("the rest keeps its content")
                && refusal.message().contains("not found"),
            "{refusal}"
        );
        assert_eq!(volume.read("context.token"), "the.second.token");
        assert!(volume.read("kubeconfig").contains("%2Fk8s:the.second.token@"));

        volume.read_only = false;
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn a_connector_that_is_no_longer_ready_still_gets_fresh_tokens_into_running_pods() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("probe-fails").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        demo.ready("k8s", "False", "ConnectionFailed", "down").await;
        volume.token = "the.second.token".into();
        kubelet.publish(&volume).await.unwrap();
        assert_eq!(volume.read("context.token"), "the.second.token");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// Until the controller has looked at an edit, nothing of it may lie in anybody's Pod.
#[test]
fn an_edit_that_nobody_has_checked_stays_out_of_running_pods() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("unchecked").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        demo.connector_at("k8s", "k8s", "https://elsewhere.example").await;
        volume.token = "the.second.token".into();
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        assert!(
            refusal.message().contains("the rest keeps its content")
                && refusal.message().contains("not checked yet"),
            "{refusal}"
        );
        assert_eq!(volume.read("context.token"), "the.second.token");
        assert!(volume.read("kubeconfig").contains("server: https://10.0.0.1:6443\n"));
        let fresh = kubelet.volume(demo.namespace, "other", "a.token");
        assert_eq!(kubelet.publish(&fresh).await.unwrap_err().code(), Code::Unavailable);

        demo.ready("k8s", "True", "", "").await;
        kubelet.publish(&volume).await.unwrap();
        assert!(volume.read("kubeconfig").contains("server: https://elsewhere.example\n"));
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// The schema refuses it in an address; in a value of any kind it cannot.
#[test]
fn a_text_that_ends_its_line_never_gets_into_a_file() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("line-breaks").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        let evil = "https://a\nusers: [{name: k8s, user: {exec: {command: sh}}}]\n---";
        let refused = demo.patch("k8s", json!({ "spec": { "address": evil } })).await.unwrap_err();
        assert!(refused.contains("must have printable characters without white space only"), "{refused}");

        for name in [json!({ "connectorClassName": "k8s\n" }), json!({ "auth": { "name": "a b" } })] {
            let refused = demo.patch("k8s", json!({ "spec": name })).await.unwrap_err();
            assert!(refused.contains("should match '^[!-~]*$'"), "{refused}");
        }

        demo.patch("k8s", json!({ "spec": { "params": [{ "name": "a", "value": evil }] } })).await.unwrap();
        demo.ready("k8s", "True", "", "").await;
        volume.token = "the.second.token".into();
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        assert!(refusal.message().contains("spec.params[0].value has a line break"), "{refusal}");
        assert!(volume.files().iter().all(|file| !volume.read(file).contains("exec")), "it is in a file");
        assert_eq!(volume.read("context.token"), "the.second.token");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// The Pod's other connector belongs to somebody else.
#[test]
fn one_connector_in_trouble_keeps_no_other_from_its_next_token() {
    isolated(async {
        let (demo, mut kubelet) = (Demo::new("others").await, Kubelet::start().await);
        demo.connector_at("other", "k8s", "https://10.0.0.2:6443").await;
        demo.ready("other", "True", "", "").await;
        let mut volume = kubelet
            .volume(demo.namespace, "job", "token.0")
            .without("connector.name")
            .with("connectors", "other,k8s");
        kubelet.publish(&volume).await.unwrap();
        demo.delete_connector("other").await;
        for (number, restarted) in [(1, false), (2, false), (3, true)] {
            if restarted {
                kubelet = kubelet.restart_driver().await;
            }
            volume.token = format!("token.{number}");
            let refusal = kubelet.publish(&volume).await.unwrap_err();
            assert!(
                refusal.message().contains("other") && refusal.message().contains("not found"),
                "{refusal}"
            );
            assert_eq!(volume.read("context.token"), volume.token);
            let kubeconfig = volume.read("kubeconfig");
            assert_eq!(kubeconfig.contains(&format!(":{}@", volume.token)), !restarted, "{kubeconfig}");
            assert!(kubeconfig.contains("10.0.0.1:6443"), "{kubeconfig}");
        }
        demo.connector_at("other", "k8s", "https://10.0.0.2:6443").await;
        demo.ready("other", "True", "", "").await;
        kubelet.publish(&volume).await.unwrap();
        assert!(volume.read("kubeconfig").contains(":token.3@"));
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// As far as each connector can: what an edit breaks is the files of its class.
#[test]
fn files_that_cannot_be_rendered_keep_neither_another_connectors_edit_nor_the_ca_from_the_volume() {
    isolated(async {
        let demo = Demo::new("rendered").await;
        // Of its own, since the other tests look at theirs.
        let ca = async |pem: &str| {
            demo.apply(json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "connectors-ca-bundle", "namespace": demo.namespace }, "data": { "ca.crt": pem },
            }))
            .await;
        };
        ca("the first CA").await;
        let everybody = cluster().await.client();
        let kubelet =
            Kubelet::with(everybody, |settings| settings.namespace = demo.namespace.to_owned()).await;
        let class = async |params: serde_json::Value, text: &str| {
            demo.apply(json!({
                "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "ConnectorClass", "metadata": { "name": "strict" },
                "spec": { "configurations": [{ "name": "login", "params": params, "data": { "login": text } }] },
            }))
            .await;
        };
        class(json!([]), "of before: {{ .context.token }}").await;
        demo.connector("strict", "strict").await;
        demo.ready("strict", "True", "", "").await;
        let mut volume = kubelet
            .volume(demo.namespace, "job", "the.first.token")
            .without("connector.name")
            .with("connectors", "strict,k8s")
            .with("configuration.names", "login,kubeconfig");
        kubelet.publish(&volume).await.unwrap();

        class(json!([{ "name": "needed", "type": "string" }]), "of now: {{ .context.token }}").await;
        demo.connector_at("k8s", "k8s", "https://elsewhere.example").await;
        demo.ready("k8s", "True", "", "").await;
        ca("the second CA").await;
        volume.token = "the.second.token".into();
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        assert!(refusal.message().contains("\"needed\""), "{refusal}");
        assert_eq!(volume.read("login"), "of before: the.second.token");
        let built_in = ["context.token", "ca.crt"].map(|file| volume.read(file));
        assert_eq!(built_in, ["the.second.token", "the second CA"]);
        let kubeconfig = volume.read("kubeconfig");
        assert!(kubeconfig.contains("server: https://elsewhere.example\n"), "{kubeconfig}");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// For whatever reason the new files cannot be written.
#[test]
fn files_that_find_no_place_in_the_volume_keep_nobody_from_the_next_token() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("no-place").await, Kubelet::start().await);
        let class = async |filler: &str| {
            demo.apply(json!({
                "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "ConnectorClass", "metadata": { "name": "grows" },
                "spec": { "configurations": [{ "name": "it", "data": { "filler": filler } }] },
            }))
            .await;
        };
        class("small").await;
        demo.connector("grows", "grows").await;
        demo.ready("grows", "True", "", "").await;
        let mut volume = kubelet
            .volume(demo.namespace, "job", "the.first.token")
            .with("connector.name", "grows")
            .with("configuration.names", "it");
        kubelet.publish(&volume).await.unwrap();
        mount_remount(&volume.target, MountFlags::empty(), c"nr_blocks=30").unwrap();
        class(&"x".repeat(120 << 10)).await;
        volume.token = "the.second.token".into();
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        assert!(refusal.message().contains("cannot write the volume on the node"), "{refusal}");
        let files = ["context.token", "filler"].map(|file| volume.read(file));
        assert_eq!(files, ["the.second.token", "small"]);
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn a_new_driver_goes_on_with_the_mounts_of_the_old_one() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("restarted").await, Kubelet::start().await);
        let mut volume = kubelet.volume(demo.namespace, "job", "the.first.token");
        kubelet.publish(&volume).await.unwrap();
        let mounts = volume.mounts();

        let kubelet = kubelet.restart_driver().await;
        assert_eq!(volume.read("context.token"), "the.first.token");
        volume.token = "the.second.token".into();
        kubelet.publish(&volume).await.unwrap();
        assert_eq!((volume.read("context.token"), volume.mounts()), ("the.second.token".to_owned(), mounts));

        let kubelet = kubelet.restart_driver().await;
        kubelet.unpublish(&volume).await.unwrap();
        assert!(volume.mounts().is_empty() && !volume.target.exists());
    });
}

#[test]
fn a_token_older_than_the_volume_allows_is_withdrawn_until_a_fresh_one_comes() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("short-lived").await, Kubelet::start().await);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut volume =
            kubelet.volume(demo.namespace, "job", &token_issued_at(now)).with("token.expiration", "10m");
        kubelet.publish(&volume).await.unwrap();

        volume.token = token_issued_at(now - 660);
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
        assert!(refusal.message().contains("token.expiration"), "{refusal}");
        assert!(volume.files().is_empty(), "{:?}", volume.files());

        volume.token = token_issued_at(now + 1);
        kubelet.publish(&volume).await.unwrap();
        assert_eq!(volume.read("context.token"), volume.token);
        kubelet.unpublish(&volume).await.unwrap();
    });
}
