//! The certificates that clients see.

use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use crate::http::H1;
use crate::target::Target;
use crate::world::{STRANGER, TOKEN, VIEWER, World, connect_head, issuer};

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
async fn no_leaf_is_minted_for_a_host_that_is_nobodys_whoever_asks() {
    let (world, target) = World::with_target(false).await;
    let minted = || world.gateway.parts.metrics.leaves_minted.get();
    let expired = format!("old-{TOKEN}");
    let port = target.authority().rsplit_once(':').unwrap().1.to_owned();
    for (token, connector, status, told) in [
        // An address of the connector's it would be told inside that it may use.
        (TOKEN, "target", "403", "is not an address of connector"),
        (STRANGER, "target", "403", "may not use connector"),
        (STRANGER, "absent", "403", "may not use connector"),
        (VIEWER, "absent", "503", "not found in namespace"),
        (expired.as_str(), "absent", "503", "no connector has an address with the host"),
    ] {
        let head = connect_head(connector, &format!("elsewhere.example:{port}"), token);
        let answer = world.raw(head.as_bytes()).await;
        let line = answer.lines().next().unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.contains(told), "{token}: {answer}");
    }
    assert_eq!(minted(), 0);
    world.opened("target", &target.authority(), STRANGER).await;
    assert_eq!(minted(), 1, "the refusal inside needs one");
}

#[tokio::test]
async fn without_an_issuer_a_tunnel_is_refused_before_the_200() {
    let (world, target) = World::with_target(false).await;
    world.gateway.parts.issuer.store(None);
    let head = connect_head("target", &target.authority(), TOKEN);
    let answer = world.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

/// As Python from 3.13 on, Java and Go look at certificates (RFC 5280).
#[tokio::test]
async fn leaves_and_both_cas_verify_strictly_whatever_the_length_of_the_host() {
    let world = World::new().await;
    let long = format!("{}.gr7.ap-southeast-1.eks.example", "0123456789abcdef".repeat(3));
    assert!(long.len() > 64);
    for (host, empty) in [("kube.example", false), (long.as_str(), true), ("127.0.0.1", false)] {
        world.connect("target", &format!("https://{host}"));
        let chain = served(&world, &format!("{host}:443")).await;
        assert_eq!(chain[0].subject_name().entries().next().is_none(), empty, "{host}");
        let text = String::from_utf8(chain[0].to_text().unwrap()).unwrap();
        assert_eq!(text.contains("X509v3 Subject Alternative Name: critical"), empty, "{text}");
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, certificate: &X509| {
            let path = folder.path().join(name);
            std::fs::write(&path, certificate.to_pem().unwrap()).unwrap();
            path
        };
        let mut verify = std::process::Command::new("openssl");
        verify
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
            .arg(file("root", &world.root.cert));
        let output = verify
            .arg("-untrusted")
            .arg(file("issuer", &chain[1]))
            .arg(file("leaf", &chain[0]))
            .output()
            .unwrap();
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(folder.path().join("main.go"), VERIFY).unwrap();
        let output = std::process::Command::new("go")
            .args(["run", "main.go", host])
            .current_dir(folder.path())
            .output()
            .expect("go is missing: install the Go toolchain");
        assert!(output.status.success(), "{host}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// As client-go verifies a server: root, issuer and leaf are files of these names.
const VERIFY: &str = r#"package main

import ("crypto/x509"; "encoding/pem"; "log"; "os")

func read(name string) *x509.Certificate {
	text, err := os.ReadFile(name)
	if err != nil { log.Fatal(err) }
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil { log.Fatal(name, ": ", err) }
	return certificate
}

func main() {
	roots, issuers := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(read("root"))
	issuers.AddCert(read("issuer"))
	_, err := read("leaf").Verify(x509.VerifyOptions{DNSName: os.Args[1], Roots: roots, Intermediates: issuers})
	if err != nil { log.Fatal(err) }
}
"#;
