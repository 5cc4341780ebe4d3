//! Several connectors in one login, and `http://` targets, which are asked for by their whole URL instead of
//! through a tunnel.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::http::{self, H1};
use crate::target::{field, read_head};
use crate::world::{STRANGER, TOKEN, World, connector};

/// A target without TLS: answers each request with its head.
pub async fn plain_target() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = heads.clone();
            tokio::spawn(async move {
                loop {
                    let head = read_head(&mut stream).await;
                    if head.is_empty() {
                        return;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                    heads.lock().unwrap().push(head);
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}

pub fn proxy(world: &World, connectors: &str, token: &str) -> String {
    format!("http://{}:{token}@127.0.0.1:{}", connectors.replace('/', "%2F").replace(',', "%2C"), world.port)
}

#[tokio::test]
async fn an_http_target_is_asked_for_by_its_whole_url() {
    let world = World::new().await;
    let (port, seen) = plain_target().await;
    world.apply(&connector("target", &format!("http://localhost:{port}/base"), "", "plain-credential", ""));
    let url = format!("http://localhost:{port}/base/a?x=1");
    let head =
        String::from_utf8(world.curl_by(&proxy(&world, "demo/target", TOKEN), &[&url, &url]).await).unwrap();
    assert!(head.starts_with("GET /base/a?x=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "authorization"), Some("Bearer plain-credential"), "{head}");
    assert_eq!(field(&head, "host"), Some(format!("localhost:{port}").as_str()), "{head}");
    assert!(!head.to_lowercase().contains("proxy-"), "{head}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_http_url_that_is_nobodys_is_refused() {
    let world = World::new().await;
    let (port, seen) = plain_target().await;
    world.apply(&connector("target", &format!("http://localhost:{port}/base"), "", "plain-credential", ""));
    let inside = format!("http://localhost:{port}/base/");
    for (what, login, url, expected) in [
        ("another port", Some(("demo/target", TOKEN)), "http://localhost:1/base/".to_owned(), "403"),
        ("another host", Some(("demo/target", TOKEN)), format!("http://127.0.0.1:{port}/base/"), "403"),
        ("another path", Some(("demo/target", TOKEN)), format!("http://localhost:{port}/other"), "403"),
        (
            "dot segments",
            Some(("demo/target", TOKEN)),
            format!("http://localhost:{port}/base/../other"),
            "400",
        ),
        ("nobody's token", Some(("demo/target", "guessed")), inside.clone(), "407"),
        ("an expired token", Some(("demo/target", "old-token-of-demo")), inside.clone(), "407"),
        ("no grant", Some(("demo/target", STRANGER)), inside.clone(), "403"),
        ("no login", None, inside, "407"),
        ("https without a tunnel", Some(("demo/target", TOKEN)), "https".to_owned(), "400"),
    ] {
        let login = login.map(|(connector, token)| {
            use base64::Engine;
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{connector}:{token}"));
            format!("Proxy-Authorization: Basic {login}\r\n")
        });
        let url = if url == "https" { format!("https://localhost:{port}/base/") } else { url };
        let request = format!(
            "GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n",
            login.unwrap_or_default()
        );
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{what}: {answer}");
        assert_eq!(
            answer.to_lowercase().contains("proxy-authenticate"),
            expected == "407",
            "{what}: {answer}"
        );
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
}

/// Two clusters behind one platform: the same host, told apart by path.
#[tokio::test]
async fn of_several_connectors_in_a_login_the_first_whose_address_matches_is_used() {
    let (world, target) = World::with_target(false).await;
    let ca = world.target_ca.pem();
    let at = |name: &str, address: &str, token: &str| {
        world.apply(&connector(name, address, &format!("caCertSecretRef: {{name: {name}-ca}}"), token, &ca));
    };
    at("target", &format!("{}/clusters/one", target.url()), "credential-one");
    at("second", &format!("{}/clusters", target.url()), "credential-all");
    let list = proxy(&world, "demo/target,demo/second", TOKEN);
    for (path, expected) in
        [("/clusters/one/a", "one"), ("/clusters/two/a", "all"), ("/clusters/one/b", "one")]
    {
        world.curl_by(&list, &[&format!("{}{path}", target.url())]).await;
        let heads = target.seen.heads();
        let head = heads.last().unwrap();
        assert_eq!(
            field(head, "authorization"),
            Some(format!("Bearer credential-{expected}").as_str()),
            "{head}"
        );
    }
    // In one tunnel, too.
    let authority = target.authority();
    let mut tls = world.tunnel("target,demo/second", &authority, H1).await;
    for (path, expected) in
        [("/clusters/one/a", "Bearer credential-one"), ("/clusters/two/a", "Bearer credential-all")]
    {
        http::exchange(&mut tls, &http::get(path, &authority)).await;
        assert_eq!(field(target.seen.heads().last().unwrap(), "authorization"), Some(expected));
    }
    let (head, _) = http::exchange(&mut tls, &http::get("/other", &authority)).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let refused =
        world.raw(crate::world::connect_head("target,demo/second", "localhost:1", TOKEN).as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("demo/target,demo/second"), "{refused}");
}
