//! One operation of kube-rs through the given kubeconfig; the last line that it prints is the result.
//!
//! `kube-rs-client KUBECONFIG OPERATION NAME`: NAME is for what it makes; see `docs/clients.md`.

#![allow(clippy::print_stdout, reason = "the answer of a command line")]

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, future::try_join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use openssl::sha::{Sha256, sha256};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAMESPACE: &str = "clients";
const POD: &str = "server";
const LOCK: &str = include_str!("../../../Cargo.lock");

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, operation, name] = words.as_slice() else {
        bail!("KUBECONFIG OPERATION NAME, not {words:?}")
    };
    let result = run(Path::new(kubeconfig), operation, name).await?;
    println!("{result}");
    Ok(())
}

async fn run(kubeconfig: &Path, operation: &str, name: &str) -> Result<String> {
    if operation == "version" {
        return version();
    }
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let (maps, pods) = (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client, NAMESPACE));
    match operation {
        "plain" | "list" => list(&maps).await,
        "watch" => watch(&maps).await,
        "write" => write(&maps, name).await,
        "logs" => logs(&pods).await,
        "exec" => exec(&pods).await,
        "copy" => copy(&pods, name).await,
        "forward" => forward(&pods).await,
        _ => bail!("unknown operation {operation:?}"),
    }
}

/// Of the kube-rs that this workspace is locked to.
fn version() -> Result<String> {
    let after = LOCK.split_once("name = \"kube\"\nversion = \"").context("Cargo.lock has kube")?.1;
    Ok(after.split('"').next().unwrap_or_default().to_owned())
}

async fn list(maps: &Api<ConfigMap>) -> Result<String> {
    let found = maps.list(&ListParams::default().labels("for=list")).await?;
    let names: Vec<String> = found.items.into_iter().filter_map(|item| item.metadata.name).collect();
    Ok(names.join(","))
}

/// Says when it watches, and ends with the first change after that. kube-rs asks the API server to end a
/// watch after 290 s.
async fn watch(maps: &Api<ConfigMap>) -> Result<String> {
    let one = "metadata.name=watched";
    let found = maps.list(&ListParams::default().fields(one)).await?;
    let mut version = found.metadata.resource_version.context("a list has a version")?;
    loop {
        let mut events = maps.watch(&WatchParams::default().fields(one), &version).await?.boxed();
        println!("watching");
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Modified(map) => return Ok(format!("changed to {}", value(&map))),
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                other => bail!("not a change: {other:?}"),
            }
        }
    }
}

fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get("value")).map_or("nothing", String::as_str)
}

async fn write(maps: &Api<ConfigMap>, name: &str) -> Result<String> {
    let made = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"value": "1"}}))?;
    let created = maps.create(&PostParams::default(), &made).await?;
    let patched =
        maps.patch(name, &PatchParams::default(), &Patch::Merge(json!({"data": {"value": "2"}}))).await?;
    maps.delete(name, &DeleteParams::default()).await?;
    ensure!(maps.get_opt(name).await?.is_none(), "deleted, and still there");
    Ok(format!("created {}, patched {}, gone", value(&created), value(&patched)))
}

/// Follows until four lines have come.
async fn logs(pods: &Api<Pod>) -> Result<String> {
    let options = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
    let lines: Vec<String> = pods.log_stream(POD, &options).await?.lines().take(4).try_collect().await?;
    Ok(lines.join(","))
}

/// What a command in the Pod wrote, and its exit status. `input` is all that it reads.
async fn command(pods: &Api<Pod>, words: &[&str], input: Option<&[u8]>) -> Result<(Vec<u8>, i32)> {
    let streams = AttachParams::default().stdin(input.is_some()).stderr(false);
    let mut run = pods.exec(POD, words.iter().copied(), &streams).await?;
    let status = run.take_status().context("a status")?;
    let mut stdout = run.stdout().context("an output")?;
    let mut stdin = run.stdin();
    let send = async {
        if let (Some(stdin), Some(input)) = (&mut stdin, input) {
            stdin.write_all(input).await?;
            stdin.shutdown().await?;
        }
        anyhow::Ok(())
    };
    let mut out = Vec::new();
    tokio::try_join!(send, async { Ok(stdout.read_to_end(&mut out).await?) })?;
    let status = status.await.context("the command ended without a status")?;
    run.join().await?;
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_ref()?.parse().ok());
    Ok((out, code.unwrap_or(i32::from(status.status.as_deref() != Some("Success")))))
}

async fn exec(pods: &Api<Pod>) -> Result<String> {
    let words = ["sh", "-c", "read line; echo \"got $line\"; exit 7"];
    let (out, code) = command(pods, &words, Some(b"hello\n")).await?;
    Ok(format!("{}, exit {code}", String::from_utf8_lossy(&out).trim()))
}

/// Brings a file into the Pod and back, and says what came back.
async fn copy(pods: &Api<Pod>, name: &str) -> Result<String> {
    let (file, there) = (tokio::fs::read("/tmp/file").await?, format!("/tmp/{name}"));
    // With && the shell stays: a command that gives up its output is taken to be at its end.
    let (_, code) =
        command(pods, &["sh", "-c", &format!("cat >{there} && echo written")], Some(&file)).await?;
    ensure!(code == 0, "writing ended with status {code}");
    let (back, code) = command(pods, &["cat", &there], None).await?;
    ensure!(code == 0, "reading ended with status {code}");
    command(pods, &["rm", &there], None).await?;
    Ok(hex(sha256(&back)))
}

/// Downloads one file eight times at once and says whether all are the same.
async fn forward(pods: &Api<Pod>) -> Result<String> {
    let sums = try_join_all((0..8).map(|_| download(pods))).await?;
    ensure!(sums.iter().all(|sum| *sum == sums[0]), "the downloads differ: {sums:?}");
    Ok(format!("8 of {}", sums[0]))
}

async fn download(pods: &Api<Pod>) -> Result<String> {
    let mut forwarder = pods.portforward(POD, &[8000]).await?;
    let mut stream = forwarder.take_stream(8000).context("a stream for the port")?;
    stream.write_all(b"GET /file HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("an answer has a head")? + 4;
    let mut sum = Sha256::new();
    sum.update(&answer[body..]);
    Ok(hex(sum.finish()))
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
