//! The first publish of a volume: what lies in it, for whom, and on what.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tonic::Code;

use crate::cluster::{CA, Demo, drivers_client};
use crate::kubelet::Kubelet;
use crate::namespace::{is_real_root, isolated};

#[test]
fn the_quick_starts_volume_holds_the_kubeconfig_and_the_built_in_files() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("quick-start").await, Kubelet::start().await);
        let token = demo.token().await;
        let volume = kubelet.volume(demo.namespace, "job", &token);
        kubelet.publish(&volume).await.unwrap();

        let kubeconfig: serde_json::Value = serde_yaml_ng::from_str(&volume.read("kubeconfig")).unwrap();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], "https://10.0.0.1:6443");
        assert_eq!(
            cluster["proxy-url"],
            format!("http://quick-start%2Fk8s:{token}@c-k8s.quick-start.svc.cluster.local")
        );
        assert_eq!(
            kubeconfig["users"][0]["user"],
            json!({ "token": "fake-token", "tokenFile": "context.token" })
        );
        assert_eq!((volume.read("context.token"), volume.read("ca.crt")), (token, CA.to_owned()));
        let expected = [
            ".env",
            "ca.cert",
            "ca.crt",
            "connector.status.proxyAddress",
            "context.proxy.caCert",
            "context.token",
            "http.proxy",
            "https.proxy",
            "kubeconfig",
        ];
        assert_eq!(volume.files(), expected);
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn a_volume_is_one_small_tmpfs_without_devices_or_programs() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("tmpfs").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", &demo.token().await);
        kubelet.publish(&volume).await.unwrap();
        let mounts = volume.mounts();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        let size = format!("size={}k", 256 * rustix::param::page_size() / 1024);
        for option in ["nosuid", "nodev", "noexec", "tmpfs connectors-csi", size.as_str()] {
            assert!(mounts[0].contains(option), "{option}: {}", mounts[0]);
        }
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn files_are_readable_for_all_or_only_for_the_pods_group() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("modes").await, Kubelet::start().await);
        let token = demo.token().await;
        let open = kubelet.volume(demo.namespace, "open", &token);
        kubelet.publish(&open).await.unwrap();
        assert_eq!((open.mode("kubeconfig"), open.mode("."), open.mode("..data/.")), (0o444, 0o755, 0o755));

        let group: u32 = if is_real_root() { 2000 } else { 0 };
        let mut grouped = kubelet.volume(demo.namespace, "grouped", &token);
        grouped.group = group.to_string();
        kubelet.publish(&grouped).await.unwrap();
        assert_eq!(grouped.mode("kubeconfig"), 0o440);
        let metadata = std::fs::metadata(grouped.target.join("context.token")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, group));
        for volume in [open, grouped] {
            kubelet.unpublish(&volume).await.unwrap();
        }
    });
}

#[test]
fn a_connector_of_another_namespace_needs_a_binding_there() {
    isolated(async {
        let (shared, demo, kubelet) =
            (Demo::new("shared").await, Demo::new("guest").await, Kubelet::start().await);
        let volume =
            kubelet.volume(demo.namespace, "job", &demo.token().await).with("connector.namespace", "shared");
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
        shared.allow("system:serviceaccounts:guest").await;
        kubelet.publish(&volume).await.unwrap();
        assert!(volume.read("http.proxy").starts_with("http://shared%2Fk8s:"));
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn other_grants_than_the_usual_one_count_too() {
    isolated(async {
        let (shared, demo) = (Demo::new("granting").await, Demo::new("granted").await);
        let (strict, token) = (Kubelet::start().await, demo.token().await);
        let volume =
            strict.volume(demo.namespace, "named-pod", &token).with("connector.namespace", "granting");
        let group = "system:serviceaccounts:granted";
        shared.bind("readers", group, "connectors", "get").await;
        assert_eq!(
            strict.publish(&volume).await.unwrap_err().code(),
            Code::PermissionDenied,
            "to read is not to use"
        );

        let migrating = Kubelet::with(drivers_client().await, |settings| settings.get_is_use = true).await;
        migrating.publish(&volume).await.expect("unless the setting for migration says so");
        migrating.unpublish(&volume).await.unwrap();

        shared.bind("for-one-pod", group, "connectors/proxy/v1/pod/granted/named-pod", "*").await;
        strict.publish(&volume).await.expect("the grant names this Pod");
        strict.unpublish(&volume).await.unwrap();
        let other =
            strict.volume(demo.namespace, "other-pod", &token).with("connector.namespace", "granting");
        assert_eq!(strict.publish(&other).await.unwrap_err().code(), Code::PermissionDenied);
    });
}

#[test]
fn several_connectors_lie_in_one_volume() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("several").await, Kubelet::start().await);
        demo.connector("second", "k8s").await;
        demo.ready("second", "True", "", "").await;
        let volume = kubelet.volume(demo.namespace, "job", &demo.token().await);
        let volume = volume.without("connector.name").with("connectors", "k8s,several/second");
        kubelet.publish(&volume).await.unwrap();
        assert!(volume.read("http.proxy").starts_with("http://several%2Fk8s,several%2Fsecond:"));
        assert_eq!(volume.read("connector.status.proxyAddress"), "http://c-second.several.svc.cluster.local");
        kubelet.unpublish(&volume).await.unwrap();
    });
}

/// Who may edit Services where a connector is could have what is sent to `c-<name>` sent to a Pod of theirs: of
/// another namespace's Pods that is a token which opens those Pods' own connectors, too.
#[test]
fn a_token_goes_to_another_namespaces_connector_by_no_service_of_that_namespace() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("guest").await, Kubelet::start().await);
        let host = Demo::new("host").await;
        host.allow("system:serviceaccounts:guest").await;
        let volume = kubelet.volume(demo.namespace, "job", &demo.token().await);
        let names = "kubeconfig,kubeconfig-reverse";
        let volume = volume.with("connector.namespace", "host").with("configuration.names", names);
        kubelet.publish(&volume).await.unwrap();
        let gateway = "connectors-gateway.connectors-system.svc.cluster.local";
        assert_eq!(volume.read("connector.status.proxyAddress"), format!("http://{gateway}"));
        for file in [".env", "http.proxy", "https.proxy", "kubeconfig"] {
            let text = volume.read(file);
            assert!(text.contains(gateway) && !text.contains("c-k8s.host"), "{file}: {text}");
        }
        let reverse: serde_json::Value = serde_yaml_ng::from_str(&volume.read("kubeconfig-reverse")).unwrap();
        let server = &reverse["clusters"][0]["cluster"]["server"];
        assert_eq!(
            server, "https://c-k8s.host.svc",
            "its certificate is the connector CA's, which nobody else has"
        );
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn calls_for_one_volume_at_the_same_time_make_one_mount() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("at-once").await, Kubelet::start().await);
        let volume = kubelet.volume(demo.namespace, "job", &demo.token().await);
        let calls = std::iter::repeat_with(|| kubelet.publish(&volume)).take(8);
        for result in futures::future::join_all(calls).await {
            result.unwrap();
        }
        assert_eq!(volume.mounts().len(), 1);
        kubelet.unpublish(&volume).await.unwrap();
    });
}
