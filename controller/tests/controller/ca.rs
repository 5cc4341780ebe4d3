//! The connector CA: made once, never replaced, and published before it signs.

use connectors_api::names;
use connectors_testenv::eventually;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use openssl::x509::X509;

use crate::world::{World, settings};
use connectors_controller::prober::fake::FakeProber;

const BROKEN_ROOT: &str = "{apiVersion: v1, kind: Secret, metadata: {name: connectors-ca, namespace: connectors-system}, type: kubernetes.io/tls, stringData: {tls.crt: none, tls.key: none}}";
const SYSTEM: &str = names::SYSTEM_NAMESPACE;

fn chain(secret: &Secret) -> Vec<X509> {
    X509::stack_from_pem(&secret.data.as_ref().unwrap()["tls.crt"].0).unwrap()
}

fn bundle(configmap: &ConfigMap) -> Vec<X509> {
    X509::stack_from_pem(configmap.data.as_ref().unwrap()[names::CA_BUNDLE_KEY].as_bytes()).unwrap()
}

fn pem(certificate: &X509) -> Vec<u8> {
    certificate.to_pem().unwrap()
}

async fn until_complete(world: &World) -> (Secret, Secret, ConfigMap) {
    let root = world.until_there::<Secret>(SYSTEM, names::ROOT_CA_SECRET, |_| true).await;
    let issuing = world.until_there::<Secret>(SYSTEM, names::ISSUING_CA_SECRET, |_| true).await;
    (root, issuing, world.until_there::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP, |_| true).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_is_made_once_and_survives_a_restart_of_the_controller() {
    let (world, _prober, running) = World::with_controller().await;
    let (root, issuing, published) = until_complete(&world).await;
    let signer = chain(&root).remove(0);
    let served = chain(&issuing);
    assert_eq!(served.len(), 2, "intermediate, then root");
    assert!(served[0].verify(&signer.public_key().unwrap()).unwrap());
    assert_eq!(pem(&served[1]), pem(&signer));
    assert_eq!(bundle(&published).iter().map(pem).collect::<Vec<_>>(), [pem(&signer)]);
    for secret in [&root, &issuing] {
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    }

    running.stop().await.unwrap();
    let _again = world.controller(settings("two"), std::sync::Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let (root_now, issuing_now, published_now) = until_complete(&world).await;
    assert_eq!(root_now.resource_version(), root.resource_version());
    assert_eq!(issuing_now.resource_version(), issuing.resource_version());
    assert_eq!(published_now.resource_version(), published.resource_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_or_damaged_is_made_anew_under_the_same_root() {
    let (world, _prober, _running) = World::with_controller().await;
    let (root, issuing, _) = until_complete(&world).await;
    let signer = chain(&root).remove(0);
    world.delete::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP).await;
    world
        .until_there::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP, |published| {
            pem(&bundle(published)[0]) == pem(&signer)
        })
        .await;
    world.delete::<Secret>(SYSTEM, names::ISSUING_CA_SECRET).await;
    let renewed = world
        .until_there::<Secret>(SYSTEM, names::ISSUING_CA_SECRET, |secret| secret.uid() != issuing.uid())
        .await;
    assert!(chain(&renewed)[0].verify(&signer.public_key().unwrap()).unwrap());
    assert_eq!(world.api::<Secret>(SYSTEM).get(names::ROOT_CA_SECRET).await.unwrap(), root);
}

/// As docs/operations.md says for a key that has leaked.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_deleted_with_its_bundle_and_issuing_ca_is_trusted_no_longer() {
    let (world, _prober, _running) = World::with_controller().await;
    let (root, issuing, _) = until_complete(&world).await;
    world.delete::<Secret>(SYSTEM, names::ROOT_CA_SECRET).await;
    let new =
        world.until_there::<Secret>(SYSTEM, names::ROOT_CA_SECRET, |secret| secret.uid() != root.uid()).await;
    let signer = chain(&new).remove(0);
    world.delete::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP).await;
    world.delete::<Secret>(SYSTEM, names::ISSUING_CA_SECRET).await;
    world
        .until_there::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP, |published| {
            bundle(published).iter().map(pem).collect::<Vec<_>>() == [pem(&signer)]
        })
        .await;
    let renewed = world
        .until_there::<Secret>(SYSTEM, names::ISSUING_CA_SECRET, |secret| secret.uid() != issuing.uid())
        .await;
    assert!(chain(&renewed)[0].verify(&signer.public_key().unwrap()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplied_root_is_used_and_a_replaced_one_is_trusted_beside_the_old_before_it_signs() {
    let world = World::new().await;
    let supply = async |common_name: &str| {
        let (certificate, key) = connectors_controller::ca::mint::root().unwrap();
        let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": names::ROOT_CA_SECRET, "namespace": SYSTEM, "labels": {"by": common_name}},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": text(pem(&certificate)), "tls.key": text(key.private_key_to_pem_pkcs8().unwrap())},
        });
        world.apply(&secret.to_string()).await;
        certificate
    };
    let first = supply("operator").await;
    let _running = world.controller(settings("one"), std::sync::Arc::new(FakeProber::healthy()));
    let (_, issuing, published) = until_complete(&world).await;
    assert!(chain(&issuing)[0].verify(&first.public_key().unwrap()).unwrap());
    assert_eq!(bundle(&published).len(), 1);

    let second = supply("successor").await;
    world
        .until_there::<ConfigMap>(SYSTEM, names::CA_BUNDLE_CONFIGMAP, |published| {
            bundle(published).iter().map(pem).collect::<Vec<_>>() == [pem(&second), pem(&first)]
        })
        .await;
    let still = world.api::<Secret>(SYSTEM).get(names::ISSUING_CA_SECRET).await.unwrap();
    assert_eq!(
        still.resource_version(),
        issuing.resource_version(),
        "signing waits until every client has the new bundle"
    );
}

/// Gateways, issuing CA and bundle are fine still.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_unusable_root_a_restarted_controller_trusts_the_published_bundle() {
    let (world, _prober, running) = World::with_controller().await;
    let (.., published) = until_complete(&world).await;
    running.stop().await.unwrap();
    world.apply(BROKEN_ROOT).await;
    let prober = std::sync::Arc::new(FakeProber::healthy());
    let _running = world.controller(settings("two"), prober.clone());
    let roots: Vec<Vec<u8>> = bundle(&published).iter().map(|root| root.to_der().unwrap()).collect();
    eventually("the bundle is trusted", async || prober.trusted() == roots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_root_is_left_as_it_is() {
    let world = World::new().await;
    world.apply(BROKEN_ROOT).await;
    let before = world.api::<Secret>(SYSTEM).get(names::ROOT_CA_SECRET).await.unwrap();
    let _running = world.controller(settings("one"), std::sync::Arc::new(FakeProber::healthy()));
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    assert_eq!(world.api::<Secret>(SYSTEM).get(names::ROOT_CA_SECRET).await.unwrap(), before);
    assert!(world.api::<Secret>(SYSTEM).get_opt(names::ISSUING_CA_SECRET).await.unwrap().is_none());

    world.delete::<Secret>(SYSTEM, names::ROOT_CA_SECRET).await;
    eventually("a new root", async || {
        world.api::<Secret>(SYSTEM).get_opt(names::ISSUING_CA_SECRET).await.unwrap().ok_or("nothing yet")
    })
    .await;
}
