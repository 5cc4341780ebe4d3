//! `config/flow` gives the parts' requests a queue of their own: asked of the API server, which names in each answer the
//! FlowSchema that it took.

use connectors_testenv::{ControlPlane, eventually};

use crate::{install, printed};

#[tokio::test]
async fn the_parts_do_not_queue_with_the_service_accounts_of_tenants() {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    let lease = ["get", "lease", "connectors-controller", "-n", "connectors-system"];
    let version = ["get", "--raw", "/version"];
    let cases = [
        ("connectors-system:connectors-gateway", &version[..], "connectors"),
        ("connectors-system:connectors-controller", &version[..], "connectors"),
        ("connectors-csi:connectors-csi", &version[..], "connectors"),
        ("connectors-system:connectors-controller", &lease[..], "connectors-leader-election"),
        ("team-a:connectors-gateway", &version[..], "service-accounts"),
    ];
    for (account, request, schema) in cases {
        let uid = printed(&cluster, &["get", "flowschema", schema, "-o", "jsonpath={.metadata.uid}"]).await;
        let user = format!("system:serviceaccount:{account}");
        // The API server learns of a new FlowSchema by a watch.
        eventually(&format!("{account} is of {schema}"), async || {
            let output = cluster.kubectl(&[request, &["--as", &user, "-v=8"]].concat()).await.unwrap();
            let headers = String::from_utf8_lossy(&output.stderr).into_owned();
            if headers.contains(&uid) { Ok(()) } else { Err(headers) }
        })
        .await;
    }
}
