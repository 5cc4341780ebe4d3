//! The home API server is away, or too busy: what is known goes on, what is not known gets no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::names::AUDIENCE;
use connectors_gateway::admit::authenticate::Rejection;
use connectors_gateway::admit::authorize::{Unavailable, Verdict};
use connectors_gateway::admit::credential::CredentialError;
use connectors_testenv::eventually;
use serde_json::json;

use crate::api_server::{ApiServer, connect, gateway, token};
use crate::world::{World, connector, installed, manifests, run, secret_role};

#[test]
fn known_principals_go_on_and_unknown_ones_get_no_answer_until_it_is_back() {
    run(async {
        let plane = installed().await;
        // Answers count as old at once, so that each look-up below wants to ask.
        let mut world = World::beside(Arc::new(plane), |settings| {
            settings.authorization.fresh = Duration::from_millis(10)
        });
        let known = world.plane.service_account_token("outage", "known", AUDIENCE, 600).await.unwrap();
        let unknown = world.plane.service_account_token("outage", "unknown", AUDIENCE, 600).await.unwrap();
        world.bind_user("outage", "known").await;
        let k8s = connector("outage", "k8s");
        world.plane.apply(&manifests(&k8s, "https://127.0.0.1:1", "REAL")).await.unwrap();
        world.plane.apply(&secret_role(&k8s)).await.unwrap();
        world.patch_status(&k8s, json!({"credential": {"secretName": "k8s", "resourceVersion": "1"}})).await;
        let principal = world.principal(&known).await;
        eventually("the binding counts", async || {
            world.parts.authorizer.may_use(&principal, &k8s).await == Ok(Verdict::Allowed)
        })
        .await;
        eventually("the route is there", async || world.route(&k8s).is_some()).await;
        let route = world.route(&k8s).unwrap();
        world.parts.credentials.get(&route).await.unwrap();

        // The watches hold clones of the client only, so the world's is the one reference.
        Arc::get_mut(&mut world.plane).expect("one owner").stop_api_server().await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(*world.principal(&known).await, *principal);
            assert_eq!(world.parts.authorizer.may_use(&principal, &k8s).await, Ok(Verdict::Allowed));
        }
        assert!(matches!(world.identity(&unknown).await, Err(Rejection::Unavailable)));
        assert!(matches!(world.identity("garbage").await, Err(Rejection::Invalid(_))));
        let other = connector("outage", "other");
        assert_eq!(world.parts.authorizer.may_use(&principal, &other).await, Err(Unavailable));
        assert!(world.route(&k8s).is_some(), "the last table stays");
        assert!(world.parts.credentials.get(&route).await.is_ok());
        let mut moved =
            connectors_gateway::table::route::Route { trust: route.trust.clone(), ..copy(&route) };
        moved.credential = route.credential.as_ref().map(|source| {
            let mut source = connectors_gateway::table::route::CredentialSource::clone(source);
            source.key.resource_version = "2".to_owned();
            Arc::new(source)
        });
        assert!(matches!(world.parts.credentials.get(&moved).await, Err(CredentialError::Unavailable)));

        Arc::get_mut(&mut world.plane).expect("one owner").start_api_server().await.unwrap();
        eventually("unknown ones are reviewed again", async || world.identity(&unknown).await.is_ok()).await;
        world.kubectl(&["delete", "connector", "k8s", "-n", "outage"]).await;
        eventually("the watch goes on", async || world.entry(&k8s).is_none()).await;
    });
}

/// `timeouts.api_server` is 3 s.
#[test]
fn an_api_server_that_is_too_busy_is_asked_once_for_a_request_and_its_client_told_to_come_again() {
    run(async {
        for status in ["429 Too Many Requests\r\nRetry-After: 1", "503 Service Unavailable"] {
            let server = ApiServer::start(status, "").await;
            let gateway = gateway(&server, "").await;
            let begun = Instant::now();
            let answer = connect(&gateway, &token()).await.to_lowercase();
            assert!(begun.elapsed() < Duration::from_secs(1), "{status}: it took {:?}", begun.elapsed());
            assert!(answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
            assert_eq!(server.reviews(), 1, "{status}");
            let told = |line: &str| line.contains("token_review") && line.contains(&status[..3]);
            let log = gateway.files.path().join("log");
            eventually("its cause is told", async || {
                let text = std::fs::read_to_string(&log).unwrap();
                if text.lines().any(told) { Ok(()) } else { Err(text) }
            })
            .await;
        }
    });
}

fn copy(route: &connectors_gateway::table::route::Route) -> connectors_gateway::table::route::Route {
    connectors_gateway::table::route::Route {
        connector: route.connector.clone(),
        uid: route.uid.clone(),
        class: route.class.clone(),
        targets: route.targets.clone(),
        credential: route.credential.clone(),
        trust: route.trust.clone(),
        impersonation: route.impersonation.clone(),
        pool_key: route.pool_key,
    }
}
