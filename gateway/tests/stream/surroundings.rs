//! Where connectors may not lead: into the cluster around the gateway, by any name and at any time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::item::Item;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::{Connector, ConnectorClass};
use connectors_gateway::settings::{InCluster, Settings, TargetRule};
use connectors_gateway::table::Builder;
use connectors_gateway::table::route::Source;
use connectors_gateway::upstream::policy::{self, Known};

use crate::http::{self, H1, H2Client, collect};
use crate::target::Target;
use crate::world::{TOKEN, World, connect_head};

fn change(world: &World, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings::clone(&world.gateway.parts.settings.load());
    change(&mut settings);
    world.gateway.parts.settings.store(Arc::new(settings));
}

fn loopback() -> TargetRule {
    TargetRule { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..TargetRule::default() }
}

async fn asked(world: &World, authority: &str) -> (String, String) {
    let (host, _) = authority.rsplit_once(':').unwrap();
    let stream = world.opened("target", authority, TOKEN).await;
    let mut tls = world.tls(stream, host, H1).await.unwrap();
    let (head, body) = http::exchange(&mut tls, &http::get("/api/v1/pods", authority)).await;
    (head.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn a_name_of_the_clusters_dns_is_refused_with_one_text_and_never_resolved() {
    let world = World::with(|settings| settings.targets.allow.clear()).await;
    for host in ["web.team.svc", "absent.team.svc.cluster.local", "10-1-2-3.team.pod.cluster.local"] {
        world.connect("target", &format!("https://{host}"));
        let (status, body) = asked(&world, &format!("{host}:443")).await;
        assert_eq!(status, "403", "{host}: {body}");
        let text = format!(
            "the gateway may not connect to {host}: ask its operator, whose targets.allow and targets.deny say so"
        );
        assert!(body.contains(&text), "{body}");
    }
    assert_eq!(world.gateway.parts.metrics.in_cluster.denied.get(), 3);
    // The API server's own name is only resolved, and refused where its address is another's.
    world.connect("target", "https://kubernetes.default.svc");
    let (_, body) = asked(&world, "kubernetes.default.svc:443").await;
    assert!(!body.contains("may not connect"), "{body}");
}

/// The same connectors in a cluster of another domain. In `localhost` there is each name, in `invalid` there is none
/// (RFC 6761), and no server is asked for either.
fn in_domain(world: &World, domain: &str) {
    let parts = &world.gateway.parts;
    let table = parts.table.load_full();
    let Source { connector, class } =
        table.source(&ConnectorRef::new("demo", "target").unwrap()).expect("connector demo/target");
    let mut builder = Builder::new(domain, "connectors-system");
    builder.put_class(Item::from(ConnectorClass::clone(class)));
    builder.replace_connectors(vec![Item::from(Connector::clone(connector))]);
    parts.table.store(Arc::new(builder.build()));
}

/// Where only its addresses can say whether a name is allowed, it has to be resolved.
#[tokio::test]
async fn who_may_go_to_no_address_of_a_name_does_not_learn_whether_it_exists() {
    let elsewhere = TargetRule { cidrs: vec!["10.255.0.0/16".parse().unwrap()], ..TargetRule::default() };
    let mut told = Vec::new();
    for domain in ["localhost", "invalid"] {
        let world = World::with(|settings| settings.targets.allow = vec![elsewhere.clone()]).await;
        world.connect("target", "https://web.team.svc");
        in_domain(&world, domain);
        for _ in 0..2 {
            let begun = Instant::now();
            told.push(asked(&world, "web.team.svc:443").await);
            assert!(begun.elapsed() > Duration::from_millis(100), "{domain}: {:?}", begun.elapsed());
        }
        assert_eq!(world.gateway.parts.metrics.in_cluster.denied.get(), 2, "{domain}");
    }
    assert!(told[0].0 == "403" && told[0].1.contains("may not connect to web.team.svc"), "{told:?}");
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    let (world, target) = World::with_target(false).await;
    world.connect("target", &format!("https://web.team.svc:{}", target.port));
    in_domain(&world, "localhost");
    let (status, body) = asked(&world, &format!("web.team.svc:{}", target.port)).await;
    assert!(status == "502" && body.contains("not trusted"), "its address is allowed: {status} {body}");
}

#[tokio::test]
async fn where_the_cluster_is_only_observed_its_names_are_resolved() {
    let world = World::with(|settings| settings.targets.in_cluster = InCluster::Observe).await;
    world.connect("target", "https://absent.team.svc");
    let (status, body) = asked(&world, "absent.team.svc:443").await;
    assert!(status == "502" && body.contains("cannot be resolved"), "{status} {body}");
    assert_eq!(world.gateway.parts.metrics.in_cluster.denied.get(), 0);
}

#[tokio::test]
async fn before_the_clusters_ranges_are_known_nothing_is_dialled_without_a_rule() {
    let world = World::with(|settings| settings.targets.allow.clear()).await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", "https://203.0.113.9");
    policy::learn(&world.surroundings, |known| *known = Known::default());
    let (status, body) = asked(&world, "203.0.113.9:443").await;
    assert!(status == "503" && body.contains("which addresses are its own cluster's"), "{status} {body}");
    change(&world, |settings| settings.targets.allow.push(loopback()));
    world.connect("target", &target.url());
    assert_eq!(asked(&world, &target.authority()).await.0, "200");
}

/// A tunnel may live for days.
#[tokio::test]
async fn a_rule_that_comes_later_ends_the_connections_that_it_forbids() {
    for h2 in [false, true] {
        let (world, target) = World::with_target(h2).await;
        let mut client = H2Client::open(&world, "target", &target.authority()).await;
        for (deny, expected) in [(false, 200), (false, 200), (true, 403), (false, 200)] {
            change(&world, |settings| settings.targets.deny = if deny { vec![loopback()] } else { vec![] });
            let request = ::http::Request::get(format!("{}/head", target.url())).body(()).unwrap();
            let (status, _, body) = client.send(request, None).await.unwrap();
            assert_eq!(status, expected, "h2 {h2}");
            collect(body).await.unwrap();
        }
        assert_eq!(target.seen.connections(), 2, "h2 {h2}: the pooled one was kept");
    }
}

#[tokio::test]
async fn an_answer_that_points_into_the_cluster_opens_no_way_there() {
    let (world, _) = World::with_target(false).await;
    let head = connect_head("target", "10.96.0.1:443", TOKEN);
    let answer = world.raw(head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("is not an address of connector"),
        "{answer}"
    );
}
