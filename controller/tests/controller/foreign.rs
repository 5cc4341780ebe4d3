//! Objects of our names that somebody else has made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connectors_api::{conditions, names};
use connectors_controller::prober::fake::FakeProber;
use connectors_controller::settings::Settings;
use connectors_testenv::eventually;
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::between;
use crate::world::{World, bearer_secret, condition, done, settings};

/// How often `counts` is true of what the controller asks for while a Connector becomes Ready, and in ten walks of it and
/// of its namespace after that.
async fn asked(world: &World, counts: fn(&Method, &str) -> bool) -> [usize; 2] {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let client = between::client(world.controllers_client(), move |method, path| {
        if counts(&method, &path) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(None)
    });
    let usual = Settings { recheck: Duration::from_mins(1), ..settings("one") };
    let prober = Arc::new(FakeProber::healthy());
    let _running = world.controller_by(client, usual, prober.clone());
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    let first = asked.load(Ordering::Relaxed);
    for round in 0..10 {
        let probes = prober.asked_about("k8s").len();
        world.apply(&bearer_secret("demo", "k8s-secret", &round.to_string())).await;
        // Also the walk of the namespace.
        world.namespace("demo", &format!("round: r{round}")).await;
        eventually("another probe", async || prober.asked_about("k8s").len() > probes).await;
    }
    [first, asked.load(Ordering::Relaxed) - first]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_somebody_else_is_not_asked_for_by_every_walk() {
    let world = World::new().await;
    world.namespace("demo", "").await;
    let theirs =
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: NAME, namespace: demo}}";
    world.apply(&theirs.replace("NAME", names::GATEWAY_SECRETS_ROLE)).await;
    let [first, later] = asked(&world, |_, path| path.contains("/demo/roles")).await;
    assert!((2..=4).contains(&(first + later)), "the Role was asked for {first} and {later} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_somebody_else_are_not_asked_for_by_every_walk() {
    let world = World::new().await;
    world.namespace("demo", "").await;
    let theirs = "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: NAME, namespace: demo}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
";
    for name in [names::GATEWAY_SECRETS_ROLE, names::USER_ROLE] {
        world.apply(&theirs.replace("NAME", name)).await;
    }
    let [first, later] = asked(&world, |_, path| path.contains("/demo/rolebindings")).await;
    assert!((2..=8).contains(&(first + later)), "the bindings were asked for {first} and {later} times");
}

/// What is not ours, the condition that tells of it, and its words.
const FOREIGN: [(&str, &str, &str, &str); 3] = [
    (
        "Role",
        names::GATEWAY_SECRETS_ROLE,
        conditions::SECRET_READY,
        "the gateway may read credentials here only if",
    ),
    (
        "RoleBinding",
        names::GATEWAY_SECRETS_ROLE,
        conditions::SECRET_READY,
        "the gateway may read credentials here only if",
    ),
    (
        "RoleBinding",
        names::USER_ROLE,
        conditions::READY,
        "nobody is given the use of this namespace's connectors",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_made_under_our_names_is_left_alone_and_told_in_the_status_with_what_to_do() {
    let (world, _prober, _running) = World::with_controller().await;
    for (at, (kind, name, type_, words)) in FOREIGN.into_iter().enumerate() {
        let namespace = format!("theirs-{at}");
        world.namespace(&namespace, "").await;
        let bound = "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}";
        let theirs = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, {}}}",
            if kind == "Role" { "rules: []" } else { bound }
        );
        world.apply(&theirs).await;
        let as_it_is =
            async || done(&world.plane, &["get", kind, name, "-n", &namespace, "-o", "yaml"]).await;
        let before = as_it_is().await;
        world.demo(&namespace, "k8s").await;
        let told = world.until_ready(&namespace, "k8s").await;
        for type_ in [type_, conditions::READY] {
            let message = condition(&told, type_).unwrap().message.unwrap_or_default();
            let object =
                format!("{kind} {name:?} was not made by connectors-controller and is left as it is");
            for expected in [object.as_str(), words, "remove it, and it is made anew"] {
                assert!(message.contains(expected), "{kind} {name}, {type_}: {message}");
            }
        }
        // In walks that do not ask for it any more, too.
        world.apply(&bearer_secret(&namespace, "k8s-secret", "two")).await;
        let version = world.api::<Secret>(&namespace).get("k8s-secret").await.unwrap().resource_version();
        let later = eventually("the new version", async || {
            let later = world.connector(&namespace, "k8s").await;
            let credential = later.status.as_ref().and_then(|status| status.credential.clone());
            if credential.map(|credential| credential.resource_version) == version {
                Ok(later)
            } else {
                Err(later)
            }
        })
        .await;
        assert_eq!(condition(&later, type_), condition(&told, type_));
        assert_eq!(as_it_is().await, before);
    }
}
