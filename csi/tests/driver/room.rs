//! The driver's memory is the node's: no namespace takes what the others' volumes need of it.

use serde_json::json;
use tonic::Code;

use crate::cluster::Demo;
use crate::kubelet::{Kubelet, PodVolume};
use crate::namespace::isolated;

/// The connectors of a volume, each with so many bytes; one may have 128 KiB.
async fn fill(demo: &Demo, bytes: usize) {
    let params = json!({ "spec": { "params": [{ "name": "large", "value": "x".repeat(bytes) }] } });
    for number in 0..16 {
        let name = format!("c{number}");
        demo.patch(&name, params.clone()).await.unwrap();
        demo.ready(&name, "True", "", "").await;
    }
}

async fn crowd() -> Demo {
    let demo = Demo::new("crowd").await;
    demo.apply(json!({
        "apiVersion": "connectors.alauda.io/v1alpha1", "kind": "ConnectorClass", "metadata": { "name": "large" },
        "spec": {
            "params": [{ "name": "large", "type": "string", "default": "" }],
            "configurations": [{ "name": "login", "data": { "login": "token: {{ .context.token }}" } }],
        },
    }))
    .await;
    for number in 0..16 {
        demo.connector(&format!("c{number}"), "large").await;
    }
    fill(&demo, 120 << 10).await;
    demo
}

fn large(kubelet: &Kubelet, demo: &Demo, number: usize) -> PodVolume {
    let names: Vec<_> = (0..16).map(|number| format!("c{number}")).collect();
    let volume = kubelet.volume(demo.namespace, &format!("large-{number}"), "the.first.token");
    volume.without("connector.name").with("connectors", &names.join(",")).with("configuration.names", "login")
}

#[test]
fn volumes_of_one_namespace_leave_those_of_others_their_room() {
    isolated(async {
        let (demo, kubelet) = (crowd().await, Kubelet::start().await);
        let mut volumes = Vec::new();
        let refusal = loop {
            let volume = large(&kubelet, &demo, volumes.len());
            if let Err(refusal) = kubelet.publish(&volume).await {
                assert!(volume.mounts().is_empty(), "a volume that was refused is mounted");
                break refusal;
            }
            volumes.push(volume);
            assert!(volumes.len() < 20, "120 MB in connectors, and no end");
        };
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
        assert!(refusal.message().contains("namespace \"crowd\" on this node"), "{refusal}");
        assert!(volumes.len() > 5, "{} volumes found room", volumes.len());
        let quiet = Demo::new("quiet").await;
        let other = kubelet.volume(quiet.namespace, "job", "a.token");
        kubelet.publish(&other).await.unwrap();

        // Those that are there are renewed, all of them, although their Connectors have become too large.
        fill(&demo, 127 << 10).await;
        let mut refused = 0;
        for volume in &mut volumes {
            volume.token = "a.token.of.before".into();
            if let Err(status) = kubelet.publish(volume).await {
                let told = "the rest keeps its content: volumes of namespace";
                assert!(status.message().contains(told), "{status}");
                refused += 1;
            }
            assert_eq!(volume.read("login"), "token: a.token.of.before");
        }
        assert!(refused > 0, "there was room for all");
        // By a driver that does not know them yet it is the token at least.
        let kubelet = kubelet.restart_driver().await;
        for volume in &mut volumes {
            volume.token = "the.second.token".into();
            let told = kubelet.publish(volume).await.map_err(|status| status.code());
            assert!(matches!(told, Ok(()) | Err(Code::Unavailable)), "{told:?}");
            assert_eq!(volume.read("context.token"), "the.second.token");
        }
        let one_more = large(&kubelet, &demo, volumes.len());
        assert_eq!(kubelet.publish(&one_more).await.unwrap_err().code(), Code::ResourceExhausted);
        kubelet.unpublish(&volumes[0]).await.unwrap();
        kubelet.publish(&one_more).await.unwrap();
        for volume in volumes[1..].iter().chain([&one_more, &other]) {
            kubelet.unpublish(volume).await.unwrap();
        }
    });
}
