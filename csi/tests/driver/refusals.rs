//! Mounts that fail: the code, and the sentence that kubelet shows as an event on the Pod. Nothing stays
//! mounted.

use connectors_testenv::deep;
use tonic::Code;

use crate::cluster::{Demo, cluster};
use crate::kubelet::{Kubelet, PodVolume};
use crate::namespace::isolated;

type Change = fn(PodVolume) -> PodVolume;

/// Connectors that cannot be mounted, each for a reason of its own.
async fn unusable(demo: &Demo) {
    Demo::new("elsewhere").await;
    demo.connector("unchecked", "k8s").await;
    demo.connector("broken", "k8s").await;
    demo.ready("broken", "False", "SecretNotFound", r#"secrets "x" not found"#).await;
    demo.connector("no-class", "gone").await;
    demo.ready("no-class", "True", "", "").await;
    demo.connector("no-name", "k8s?watch=true").await;
    demo.ready("no-name", "True", "", "").await;
}

#[test]
fn a_refused_mount_says_what_to_do_and_leaves_nothing() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("refused").await, Kubelet::start().await);
        unusable(&demo).await;
        let cases: [(Change, Code, &str); 14] = [
            (
                |v| v.with("connector.name", "nobody"),
                Code::NotFound,
                r#"connector "nobody" not found in namespace "refused""#,
            ),
            (
                |v| v.with("connector.name", "unchecked"),
                Code::Unavailable,
                "is not ready: it was not checked yet",
            ),
            (
                |v| v.with("connector.name", "broken"),
                Code::Unavailable,
                r#"connector "broken" in namespace "refused" is not ready: SecretNotFound: secrets "x" not found"#,
            ),
            (
                |v| v.with("connector.name", "no-class"),
                Code::NotFound,
                r#"connectorclass "gone" of connector "no-class""#,
            ),
            (
                |v| v.with("connector.name", "no-name"),
                Code::NotFound,
                r#"connectorclass "k8s?watch=true" of connector "no-name""#,
            ),
            (
                |v| v.with("configuration.names", "kubeconf"),
                Code::InvalidArgument,
                r#"connectorclass "k8s" has kubeconfig, kubeconfig-reverse"#,
            ),
            (
                |v| v.with("connector.namespace", "elsewhere"),
                Code::PermissionDenied,
                r#"serviceaccount refused/default may not use connector "k8s" in namespace "elsewhere": bind ClusterRole connectors-user"#,
            ),
            (
                |v| v.with("connector.namespace", "elsewhere").with("connector.name", "nobody"),
                Code::PermissionDenied,
                r#"may not use connector "nobody" in namespace "elsewhere""#,
            ),
            (
                |v| v.without("connector.name"),
                Code::InvalidArgument,
                "connectors or connector.name is required",
            ),
            (|v| v.with("conector.name", "k8s"), Code::InvalidArgument, r#"did you mean "connector.name"?"#),
            (|v| v.with("configuration.params", "{"), Code::InvalidArgument, "configuration.params"),
            (
                |v| v.with("configuration.params", &" ".repeat(32 << 10)),
                Code::InvalidArgument,
                "the volume's attributes take 33 KiB, more than the 32 KiB that a volume may have",
            ),
            // Before it is read.
            (
                |v| v.with("configuration.params", &" ".repeat(1 << 20)),
                Code::OutOfRange,
                "the limit is: 65536",
            ),
            (
                |mut v| {
                    v.read_only = false;
                    v
                },
                Code::InvalidArgument,
                "requires all volume requests to set read-only to 'true'",
            ),
        ];
        for (change, code, text) in cases {
            let volume = change(kubelet.volume(demo.namespace, "job", "the.sa.token"));
            let refusal = kubelet.publish(&volume).await.expect_err(text);
            assert_eq!(refusal.code(), code, "{refusal}");
            assert!(refusal.message().contains(text), "{refusal}");
            assert!(volume.mounts().is_empty() && !volume.target.exists(), "{text}");
            kubelet.unpublish(&volume).await.unwrap();
        }
    });
}

/// The list of a watch is not all that one object could end: here it is a single read.
#[test]
fn a_connector_that_is_nested_too_deep_is_told_so_and_depth_that_nobody_reads_does_not_matter() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("deep").await, Kubelet::start().await);
        for depth in [200, 5_000] {
            for place in deep::UNREAD.iter().chain([&deep::READ]) {
                deep::create(cluster().await, demo.namespace, place, depth).await.unwrap();
            }
            let volume = |place: &str| {
                let pod = format!("{place}-{depth}");
                kubelet.volume(demo.namespace, &pod, "the.sa.token").with("connector.name", &pod)
            };
            let refusal = kubelet.publish(&volume(deep::READ)).await.unwrap_err();
            assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
            assert!(
                refusal.message().contains("it cannot be read: it is nested deeper than 128 levels"),
                "{refusal}"
            );
            for place in deep::UNREAD {
                demo.ready(&format!("{place}-{depth}"), "True", "", "").await;
                let volume = volume(place);
                kubelet.publish(&volume).await.unwrap_or_else(|refusal| panic!("{place}-{depth}: {refusal}"));
                assert!(volume.read("kubeconfig").contains("server: https://target.example:6443\n"));
                kubelet.unpublish(&volume).await.unwrap();
            }
        }
    });
}

#[test]
fn a_volume_that_becomes_possible_is_mounted_by_kubelets_next_try() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("patient").await, Kubelet::start().await);
        demo.ready("k8s", "False", "ConnectionFailed", "dial tcp 10.0.0.1:6443: connect: connection refused")
            .await;
        let volume = kubelet.volume(demo.namespace, "job", "the.sa.token");
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert!(refusal.message().contains("connection refused"), "{refusal}");
        demo.ready("k8s", "True", "", "").await;
        kubelet.publish(&volume).await.unwrap();
        kubelet.unpublish(&volume).await.unwrap();
    });
}

#[test]
fn an_api_server_that_does_not_answer_is_named_as_the_cause() {
    isolated(async {
        let nobody = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let kubelet = Kubelet::with_client(nobody.try_into().unwrap()).await;
        let volume = kubelet.volume("outage", "job", "the.sa.token");
        let refusal = kubelet.publish(&volume).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
        assert!(refusal.message().contains("the API server did not answer"), "{refusal}");
    });
}
