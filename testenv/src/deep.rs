//! Connectors whose JSON is nested deeper than a careless reader takes, in each place where the API server
//! lets a user write so.

use anyhow::Result;

use crate::ControlPlane;

/// Places in which nobody of ours reads: such a connector works.
pub const UNREAD: [&str; 3] = ["unknown", "annotation", "status"];
/// A place that is read: such a connector is of no use.
pub const READ: &str = "params";

/// Creates Connector `<place>-<depth>` of class `k8s`, nested `depth` deep there. Its Secret is `k8s-secret`.
pub async fn create(plane: &ControlPlane, namespace: &str, place: &str, depth: usize) -> Result<()> {
    let name = format!("{place}-{depth}");
    let connector = connector(namespace, &name, place, depth);
    plane.feed(&["create", "--validate=false", "-f", "-"], &connector).await?;
    if place != "status" {
        return Ok(());
    }
    let patch = format!(r#"{{"status": {{"surprise": {}}}}}"#, nested(depth));
    let patch =
        ["patch", "connector", &name, "-n", namespace, "--subresource=status", "--type=merge", "-p", &patch];
    plane.feed(&patch, "").await
}

fn connector(namespace: &str, name: &str, place: &str, depth: usize) -> String {
    let deep = nested(depth);
    let (annotations, spec) = match place {
        "params" => (String::new(), format!(r#", "params": [{{"name": "a", "value": {deep}}}]"#)),
        "unknown" => (String::new(), format!(r#", "surprise": {deep}"#)),
        "annotation" => (format!(r#", "annotations": {{"a": {deep:?}}}"#), String::new()),
        _ => (String::new(), String::new()),
    };
    format!(
        r#"{{"apiVersion": "connectors.alauda.io/v1alpha1", "kind": "Connector",
        "metadata": {{"namespace": "{namespace}", "name": "{name}"{annotations}}},
        "spec": {{"connectorClassName": "k8s", "address": "https://target.example:6443",
                  "auth": {{"name": "bearerTokenAuth", "secretRef": {{"name": "k8s-secret"}}}}{spec}}}}}"#
    )
}

fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}
