//! The access record of a request: one line, whatever became of it, and no secret in it.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::sync::{Arc, Barrier, Mutex, Once};

use connectors_gateway::workers::Workers;
use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::http::{self, H1, H2Client, collect};
use crate::target::{Target, field, read_head};
use crate::upgrade_load::{WEBSOCKET, agreement, request};
use crate::world::{SECRET, STRANGER, TOKEN, World, connect_head};

thread_local! {
    /// Of the test that runs on this thread, shared with the workers of its gateways: nobody else's.
    static LINES: RefCell<Arc<Mutex<Vec<u8>>>> = RefCell::default();
    /// Other tests need no log, and would be slow with one of everything.
    static LISTENS: Cell<Listens> = const { Cell::new(Listens::Nothing) };
}

#[derive(Clone, Copy, PartialEq)]
enum Listens {
    Nothing,
    Access,
    Everything,
}

static SUBSCRIBED: Once = Once::new();

/// What workers log from now on is in the log of this thread.
pub fn follow(workers: &Workers, count: usize) {
    let (lines, listens) = (LINES.with_borrow(Arc::clone), LISTENS.get());
    // Each waits for all: so no worker gets two.
    let all = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let (lines, all) = (lines.clone(), all.clone());
        workers.give(Box::new(move || {
            LINES.set(lines);
            LISTENS.set(listens);
            all.wait();
            Box::pin(std::future::ready(()))
        }));
    }
    all.wait();
}

/// The log of this thread. One subscriber for all tests: with several, whether a line is wanted would be
/// cached across them.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow(|lines| lines.lock().unwrap().extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Of everything and everyone: h2, hyper and kube too.
    pub fn start() -> Log {
        Log::listen(Listens::Everything)
    }

    /// Of access records only.
    pub fn of_access() -> Log {
        Log::listen(Listens::Access)
    }

    fn listen(to: Listens) -> Log {
        SUBSCRIBED.call_once(|| {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(|| Log);
            let filter = dynamic_filter_fn(|metadata, _| match LISTENS.get() {
                Listens::Nothing => false,
                Listens::Access => metadata.target() == "access",
                Listens::Everything => true,
            });
            tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        });
        LISTENS.set(to);
        LINES.take();
        Log
    }

    fn text(&self) -> String {
        LINES.with_borrow(|lines| String::from_utf8(lines.lock().unwrap().clone()).unwrap())
    }

    /// What was recorded since the last call.
    pub fn take_access(&self) -> Vec<serde_json::Value> {
        // At once: a worker may write the next line meanwhile.
        access_of(&LINES.with_borrow(|lines| std::mem::take(&mut *lines.lock().unwrap())))
    }

    pub fn access(&self) -> Vec<serde_json::Value> {
        access_of(self.text().as_bytes())
    }
}

fn access_of(log: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(log).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.filter(|record| record["target"] == "access").collect()
}

#[tokio::test]
async fn a_request_is_recorded_with_who_what_and_how_much() {
    let log = Log::start();
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    http::exchange(&mut tls, &http::get("/bytes/10?watch=0&token=abc", &target.authority())).await;
    eventually("a record", async || log.access().len() == 1).await;
    let record = &log.access()[0];
    for (key, value) in [
        ("user", "system:serviceaccount:demo:default"),
        ("pod", "default-pod"),
        ("connector", "demo/target"),
        ("method", "GET"),
        ("path", "/bytes/10?watch=0&token=-"),
    ] {
        assert_eq!(record[key], value, "{record}");
    }
    assert_eq!((&record["status"], &record["cut"]), (&200.into(), &false.into()), "{record}");
    let audited = target.seen.heads();
    let audit_id = field(&audited[0], "audit-id").unwrap();
    assert!(audit_id.len() == 36 && record["audit_id"] == audit_id, "{record}");
    assert_eq!(record["client"], "127.0.0.1", "{record}");
}

/// Also of those that were refused, and of a connection that was there before its connector had series of its own.
#[tokio::test]
async fn a_request_counts_for_its_connector_while_that_has_series_of_its_own() {
    let (world, target) = World::with_target(false).await;
    let connectors = &world.gateway.parts.metrics.connectors;
    let counted = |name: &str, code: &str| {
        let text = String::from_utf8(world.gateway.parts.metrics.render().unwrap()).unwrap();
        let namespace = if name == "other" { "" } else { "demo" };
        let labels = format!("{{code=\"{code}\",connector=\"{name}\",connector_namespace=\"{namespace}\"}} ");
        let line = text.lines().find_map(|line| line.split_once(&labels));
        line.map(|(_, count)| count.parse::<u64>().unwrap())
    };
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    http::exchange(&mut tls, &http::get("/bytes/10", &target.authority())).await;
    eventually("it counts", async || counted("target", "2xx") == Some(1)).await;
    world.apply(&crate::world::connector("broken", "https://localhost:1", "", SECRET, ""));
    let (status, _) = world
        .direct(
            "http://connectors-gateway.connectors-system.svc/namespaces/demo/connectors/broken/x",
            &["--header", &format!("Authorization: Bearer {TOKEN}")],
        )
        .await;
    assert_eq!(status, 502);
    assert_eq!(counted("broken", "5xx"), Some(1));

    connectors.keep(Vec::new());
    assert_eq!((counted("target", "2xx"), counted("other", "2xx")), (None, Some(0)));
    let told = async {
        while counted("other", "2xx") == Some(0) {
            http::exchange(&mut tls, &http::get("/bytes/10", &target.authority())).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), told).await.expect("it counts for all others");
}

#[tokio::test]
async fn a_stream_that_is_cut_is_recorded_with_its_bytes() {
    let log = Log::start();
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(http::get("/watch", &target.authority()).as_bytes()).await.unwrap();
    read_head(&mut tls).await;
    drop(tls);
    eventually("a record", async || log.access().len() == 1).await;
    let record = &log.access()[0];
    assert_eq!(
        (&record["status"], &record["cut"], &record["blame"]),
        (&200.into(), &true.into(), &"client".into()),
        "{record}"
    );
    assert!(record["bytes_down"].as_u64().unwrap() >= 6, "{record}");
}

#[tokio::test]
async fn a_malformed_request_is_recorded_in_either_protocol() {
    let log = Log::start();
    let (world, target) = World::with_target(false).await;
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let (head, _) = http::exchange(&mut tls, "GET / HTTP/1.1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let request = ::http::Request::get(target.url()).header("host", "another.example").body(()).unwrap();
    assert_eq!(client.send(request, None).await.unwrap().0, 400);
    eventually("two records", async || log.access().len() == 2).await;
    for (record, protocol) in log.access().iter().zip(["h1", "h2"]) {
        assert_eq!((&record["protocol"], &record["status"]), (&protocol.into(), &400.into()), "{record}");
        assert_eq!(
            (&record["connector"], &record["blame"]),
            (&"demo/target".into(), &"client".into()),
            "{record}"
        );
    }
}

#[tokio::test]
async fn no_log_of_any_level_holds_a_token_or_the_credential() {
    let log = Log::start();
    let (world, target) = World::with_target(false).await;
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H1).await;
    http::exchange(&mut tls, &http::get("/head", &authority)).await;
    world.raw(connect_head("target", "elsewhere:1", TOKEN).as_bytes()).await;
    world.raw(connect_head("target", &authority, "guessed-token").as_bytes()).await;
    let stream = world.opened("target", &authority, STRANGER).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    http::exchange(&mut tls, &http::get("/", &authority)).await;
    let h2_target = Target::http(&world.leaf(), true).await;
    world.connect("second", &h2_target.url());
    let mut client = H2Client::open(&world, "second", &h2_target.authority()).await;
    let request = ::http::Request::get(format!("{}/head", h2_target.url()))
        .header("authorization", "Bearer fake-token");
    let (_, _, body) = client.send(request.body(()).unwrap(), None).await.unwrap();
    collect(body).await.unwrap();
    eventually("all records", async || log.access().len() == 5).await;
    let text = log.text();
    assert!(text.contains(r#""target":"h2::"#) && text.contains("TRACE"), "the log is not of everything");
    for secret in [TOKEN, STRANGER, SECRET, "guessed-token", "fake-token"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_upgraded_stream_is_recorded_with_its_bytes_both_ways() {
    let log = Log::start();
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        let head = read_head(&mut tls).await;
        tls.write_all((agreement(&head) + "prompt").as_bytes()).await.unwrap();
        tls.read_exact(&mut [0; 4]).await.unwrap();
        tls.write_all(b"output").await.unwrap();
        let _ = tls.shutdown().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    let path = "/api/v1/namespaces/a/pods/b/exec?command=sh&container=c";
    tls.write_all((request(WEBSOCKET, path, &target.authority()) + "ls").as_bytes()).await.unwrap();
    read_head(&mut tls).await;
    tls.write_all(b"-l").await.unwrap();
    let mut got = String::new();
    tls.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "promptoutput");
    tls.shutdown().await.unwrap();
    eventually("a record", async || log.access().len() == 1).await;
    let record = &log.access()[0];
    assert_eq!(
        (&record["status"], &record["cut"], &record["verb"]),
        (&101.into(), &false.into(), &"create".into()),
        "{record}"
    );
    assert_eq!((&record["bytes_up"], &record["bytes_down"]), (&4.into(), &12.into()), "{record}");
    assert_eq!(record["path"], "/api/v1/namespaces/a/pods/b/exec?command=-&container=c");
}
