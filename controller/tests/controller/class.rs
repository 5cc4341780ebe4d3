//! A class that cannot be used says so, takes its own Connectors with it and nobody else's.

use connectors_api::ConnectorClass;
use connectors_api::conditions::{self, Condition, reason};
use connectors_testenv::eventually;

use crate::world::{World, connector};

const AUTH: &str = "{name: bearerTokenAuth, secretRef: {name: k8s-secret}}";

fn found(class: &ConnectorClass, type_: &str) -> Option<Condition> {
    class.status.iter().find_map(|status| conditions::find(&status.conditions, type_).cloned())
}

async fn until(world: &World, name: &str, type_: &str, status: &str, reason: &str) -> ConnectorClass {
    eventually(&format!("class {name} {type_}={status} {reason}"), async || {
        let class = world.class(name).await;
        let reached = found(&class, type_).is_some_and(|found| {
            found.status == status && found.reason.as_deref().unwrap_or_default() == reason
        });
        if reached { Ok(class) } else { Err(class.status) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_with_a_broken_template_is_refused_alone() {
    let (world, _prober, _running) = World::with_controller().await;
    world.demo("demo", "sound").await;
    let broken = "
apiVersion: connectors.alauda.io/v1alpha1
kind: ConnectorClass
metadata: {name: broken}
spec:
  auth: {types: [{name: bearerTokenAuth, secretType: connectors.cpaas.io/bearer-token}]}
  configurations: [{name: file, data: {file: '{{ if .context.token }}'}}]
  proxy: {ref: {kind: Service, name: connectors-gateway, namespace: connectors-system}}
";
    world.apply(broken).await;
    world
        .apply(
            &connector("demo", "on-broken", AUTH)
                .replace("connectorClassName: k8s", "connectorClassName: broken"),
        )
        .await;

    until(&world, "broken", conditions::READY, "False", reason::CLASS_INVALID).await;
    world.until_condition("demo", "on-broken", conditions::READY, "False", reason::CLASS_INVALID).await;
    world.until_ready("demo", "sound").await;
    until(&world, "k8s", conditions::READY, "True", "").await;

    world.apply(&broken.replace("{{ if .context.token }}", "{{ .context.token }}")).await;
    until(&world, "broken", conditions::READY, "True", "").await;
    world.until_ready("demo", "on-broken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_and_proxy_of_a_class_are_looked_up() {
    let (world, _prober, _running) = World::with_controller().await;
    let class = |name: &str, spec: &str| {
        format!(
            "{{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
        )
    };
    let gateway = "ref: {name: connectors-gateway, namespace: connectors-system}";
    world.apply(&class("bare", "")).await;
    world.apply(&class("full", &format!("api: {{{gateway}, uri: /prefix}}, proxy: {{{gateway}}}"))).await;
    world
        .apply(&class(
            "absolute",
            "api: {uri: 'https://api.example/x'}, proxy: {uri: 'http://proxy.example'}",
        ))
        .await;
    world
        .apply(&class("lost", "proxy: {ref: {name: connectors-proxy-service, namespace: connectors-system}}"))
        .await;

    until(&world, "bare", "APIReady", "True", reason::NON_API).await;
    until(&world, "bare", "ProxyReady", "True", reason::NON_PROXY).await;
    for (name, api, proxy) in [
        (
            "full",
            "https://connectors-gateway.connectors-system.svc/prefix",
            "http://connectors-gateway.connectors-system.svc",
        ),
        ("absolute", "https://api.example/x", "http://proxy.example"),
    ] {
        let status = until(&world, name, conditions::READY, "True", "").await.status.unwrap();
        assert_eq!(status.api.unwrap().address.unwrap().url.as_deref(), Some(api));
        assert_eq!(status.proxy.unwrap().http_address.unwrap().url.as_deref(), Some(proxy));
    }
    let lost = until(&world, "lost", conditions::READY, "False", reason::PROXY_SERVICE_NOT_FOUND).await;
    let message = found(&lost, "ProxyReady").unwrap().message;
    assert_eq!(
        message.as_deref(),
        Some("Service connectors-proxy-service not found in namespace connectors-system")
    );

    world.apply(&class("listing", "proxy: {ref: {name: '?watch=true', namespace: connectors-system}}")).await;
    until(&world, "listing", conditions::READY, "False", reason::PROXY_SERVICE_NOT_FOUND).await;

    world.namespace("demo", "").await;
    let on = |class: &str| {
        connector("demo", &format!("on-{class}"), "{}")
            .replace("connectorClassName: k8s", &format!("connectorClassName: {class}"))
    };
    world.apply(&on("lost")).await;
    world
        .until_condition(
            "demo",
            "on-lost",
            conditions::PROXY_SERVICE_READY,
            "False",
            reason::PROXY_SERVICE_NOT_FOUND,
        )
        .await;
    world.apply(&on("bare")).await;
    let without = world
        .until_condition("demo", "on-bare", conditions::PROXY_SERVICE_READY, "True", reason::NON_PROXY)
        .await;
    assert!(without.status.unwrap().proxy.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_resolves_by_path_says_so_in_the_proxy_address() {
    let (world, _prober, _running) = World::with_controller().await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let annotate =
        ["annotate", "--overwrite", "connectorclass", "k8s", "connectors.cpaas.io/proxy-resolver=path"];
    assert!(world.plane.kubectl(&annotate).await.unwrap().status.success());
    let url = "http://c-k8s.demo.svc.cluster.local/namespaces/demo/connectors/k8s";
    eventually("the path form", async || {
        let status = world.connector("demo", "k8s").await.status.unwrap();
        let found = status.proxy.and_then(|proxy| proxy.http_address).and_then(|address| address.url);
        if found.as_deref() == Some(url) { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_stored_and_not_acted_on_is_named_and_harms_nobody() {
    let (world, _prober, _running) = World::with_controller().await;
    let class = |spec: &str| {
        format!(
            "{{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {{name: rego}}, spec: {{{spec}}}}}"
        )
    };
    world.apply(&class("proxy: {uri: 'http://proxy.example', authExtractor: {rego: 'package a'}}")).await;
    let told = until(&world, "rego", conditions::ALL_FIELDS_USED, "False", reason::FIELDS_NOT_USED).await;
    let condition = found(&told, conditions::ALL_FIELDS_USED).unwrap();
    assert!(condition.message.unwrap().contains("spec.proxy.authExtractor.rego"));
    assert_eq!(condition.severity.as_deref(), Some("Info"));
    until(&world, "rego", conditions::READY, "True", "").await;
    world.apply(&class("proxy: {uri: 'http://proxy.example'}")).await;
    until(&world, "rego", conditions::ALL_FIELDS_USED, "True", "").await;
}
