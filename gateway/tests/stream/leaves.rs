//! The certificates that clients see.

use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use crate::http::H1;
use crate::target::Target;
use crate::world::{STRANGER, World, issuer};

async fn served(world: &World, authority: &str) -> Vec<X509> {
    let tls = world.tunnel("target", authority, H1).await;
    tls.ssl().peer_cert_chain().unwrap().iter().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_leaf_names_its_host_and_lives_a_day_below_the_issuer() {
    let world = World::new().await;
    let target = Target::http(&world.leaf(), false).await;
    for host in ["localhost", "127.0.0.1"] {
        let authority = format!("{host}:{}", target.port);
        world.connect("target", &format!("https://{authority}"));
        let chain = served(&world, &authority).await;
        assert_eq!(chain.len(), 2, "leaf and intermediate, without the root");
        let names = chain[0].subject_alt_names().unwrap();
        let name = names.iter().next().unwrap();
        match host.parse::<std::net::Ipv4Addr>() {
            Ok(ip) => assert_eq!(name.ipaddress(), Some(&ip.octets()[..])),
            Err(_) => assert_eq!(name.dnsname(), Some(host)),
        }
        let (day, now) = (Asn1Time::days_from_now(1).unwrap(), Asn1Time::days_from_now(0).unwrap());
        assert!(chain[0].not_after() <= day && chain[0].not_after() <= chain[1].not_after());
        let backdated = chain[0].not_before().diff(&now).unwrap();
        assert!(backdated.days == 0 && (3590..=3660).contains(&backdated.secs), "{backdated:?}");
    }
}

#[tokio::test]
async fn a_leaf_is_kept_until_another_issuer_comes() {
    let (world, target) = World::with_target(false).await;
    let serial = |chain: &[X509]| chain[0].serial_number().to_bn().unwrap();
    let first = served(&world, &target.authority()).await;
    assert_eq!(serial(&served(&world, &target.authority()).await), serial(&first));
    world.gateway.parts.issuer.store(Some(issuer(&world.root)));
    let renewed = served(&world, &target.authority()).await;
    assert_ne!(serial(&renewed), serial(&first));
    assert_ne!(renewed[1].to_der().unwrap(), first[1].to_der().unwrap());
}

#[tokio::test]
async fn a_host_that_no_connector_has_takes_no_place_among_those_that_one_has() {
    let (world, target) = World::with_target(false).await;
    let minted = || world.gateway.parts.metrics.leaves_minted.get();
    world.opened("target", &target.authority(), STRANGER).await;
    world.opened("target", "elsewhere:443", STRANGER).await;
    assert_eq!(minted(), 2);
    world.gateway.leaves.context("localhost", true).unwrap();
    assert_eq!(minted(), 2, "the connector's host is kept");
    world.gateway.leaves.context("elsewhere", true).unwrap();
    assert_eq!(minted(), 3, "a stranger's host is kept among those of connectors");
}

#[tokio::test]
async fn without_an_issuer_a_tunnel_is_refused_before_the_200() {
    let (world, target) = World::with_target(false).await;
    world.gateway.parts.issuer.store(None);
    let head = crate::world::connect_head("target", &target.authority(), crate::world::TOKEN);
    let answer = world.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}
