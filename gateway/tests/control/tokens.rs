//! Who is it? Real tokens, forged ones, and what of them reaches the API server.

use connectors_api::names::AUDIENCE;
use connectors_gateway::admit::authenticate::{Identity, Rejection};
use openssl::pkey::PKey;
use serde_json::{Value, json};

use crate::world::{World, asked, run};

/// The token with other claims, signed again: with the API server's own key, or with one of ours.
pub fn signed_again(world: &World, token: &str, change: impl Fn(&mut Value), own_key: bool) -> String {
    let key = match own_key {
        true => connectors_testenv::signing_key(world.plane.kubeconfig()).unwrap(),
        false => PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap(),
    };
    connectors_testenv::signed_again(token, &key, change).unwrap()
}

fn rejected(identity: Result<Identity, Rejection>) -> &'static str {
    match identity {
        Err(Rejection::Invalid(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_pods_token_names_its_serviceaccount_and_pod_and_is_reviewed_once() {
    run(async {
        let world = World::new().await;
        let token = world.pod_token("tokens-pod", "client").await;
        let principal = world.principal(&token).await;
        assert_eq!(&*principal.user, "system:serviceaccount:tokens-pod:default");
        assert!(
            principal.groups.iter().any(|group| group == "system:serviceaccounts:tokens-pod"),
            "{:?}",
            principal.groups
        );
        let pod = principal.pod.as_ref().expect("the token is bound to a Pod");
        assert_eq!((&*pod.namespace, &*pod.name), ("tokens-pod", "client"));
        let uid = world
            .kubectl(&["get", "pod", "client", "-n", "tokens-pod", "-o", "jsonpath={.metadata.uid}"])
            .await;
        assert_eq!(*pod.uid, *uid);
        let left = principal.expires.duration_since(std::time::SystemTime::now()).unwrap().as_secs();
        assert!((500..=3700).contains(&left), "{left}");
        let before = asked(&world.parts.metrics.home.token_reviews);
        world.principal(&token).await;
        assert_eq!(asked(&world.parts.metrics.home.token_reviews), before);
    });
}

#[test]
fn garbage_and_tokens_that_are_not_for_us_are_refused_without_a_token_review() {
    run(async {
        let world = World::new().await;
        let ours = world.plane.service_account_token("tokens-bad", "default", AUDIENCE, 600).await.unwrap();
        let theirs = world
            .plane
            .service_account_token("tokens-bad", "default", "https://elsewhere", 600)
            .await
            .unwrap();
        let admin = |claims: &mut Value| claims["sub"] = json!("system:serviceaccount:kube-system:admin");
        for (token, why) in [
            (String::new(), "the token is empty or too long"),
            ("x".repeat(20_000), "the token is empty or too long"),
            ("garbage".to_owned(), "the token is no ServiceAccount token"),
            ("a.b.c".to_owned(), "the token is no ServiceAccount token"),
            (theirs, "the token is for another audience"),
            (signed_again(&world, &ours, admin, false), "the token's signature is wrong"),
            (
                signed_again(&world, &ours, |claims| claims["iss"] = json!("https://evil"), false),
                "the token's signature is wrong",
            ),
            (
                signed_again(&world, &ours, |claims| claims["exp"] = json!(1_600_000_000), true),
                "the token has expired",
            ),
        ] {
            assert_eq!(rejected(world.identity(&token).await), why);
        }
        assert_eq!(asked(&world.parts.metrics.home.token_reviews), 0);
    });
}

#[test]
fn an_unknown_issuer_with_the_clusters_own_key_is_left_to_the_api_server() {
    run(async {
        let world = World::new().await;
        let ours =
            world.plane.service_account_token("tokens-issuer", "default", AUDIENCE, 600).await.unwrap();
        let moved = signed_again(&world, &ours, |claims| claims["iss"] = json!("https://moved"), true);
        assert_eq!(rejected(world.identity(&moved).await), "the token was refused by the cluster");
        assert_eq!(asked(&world.parts.metrics.home.token_reviews), 1);
    });
}

#[test]
fn a_token_that_expired_a_moment_ago_is_known_but_not_valid() {
    run(async {
        let world = World::new().await;
        let token = world.pod_token("tokens-late", "client").await;
        let hour_ago =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 3600;
        let late = signed_again(&world, &token, |claims| claims["exp"] = json!(hour_ago), true);
        let Ok(Identity::Expired(principal)) = world.identity(&late).await else { panic!("not expired") };
        assert_eq!(&*principal.user, "system:serviceaccount:tokens-late:default");
        assert_eq!(&*principal.pod.as_ref().unwrap().name, "client");
        let forged = signed_again(&world, &token, |claims| claims["exp"] = json!(hour_ago), false);
        assert_eq!(rejected(world.identity(&forged).await), "the token's signature is wrong");
    });
}

#[test]
fn a_deleted_serviceaccounts_token_is_refused_although_its_signature_is_good() {
    run(async {
        let world = World::new().await;
        let token = world.plane.service_account_token("tokens-gone", "leaver", AUDIENCE, 600).await.unwrap();
        world.kubectl(&["delete", "serviceaccount", "leaver", "-n", "tokens-gone"]).await;
        assert_eq!(rejected(world.identity(&token).await), "the token was refused by the cluster");
    });
}

#[test]
fn a_hundred_requests_with_one_new_token_make_one_review() {
    run(async {
        let world = World::new().await;
        let token = world.plane.service_account_token("tokens-many", "default", AUDIENCE, 600).await.unwrap();
        let all = futures::future::join_all((0..100).map(|_| world.principal(&token))).await;
        assert_eq!(all.len(), 100);
        assert_eq!(asked(&world.parts.metrics.home.token_reviews), 1);
    });
}
