//! The watches: all of them open at once, nothing for a while, then one change that each must see. Meanwhile
//! something keeps each connection alive: TCP's timer at the gateway, PING on HTTP/2.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::pods::{Facts, NAMESPACE};
use super::{Cell, Flavour, Matrix, Operation, Row, cell};

/// A client in a virtual machine of its own starts slowly beside others.
const OPEN: Duration = Duration::from_secs(90);
/// From the change to the client's end. Helm asks for the end of what it waited for, and removes it.
const SEEN: Duration = Duration::from_secs(45);

pub(super) async fn watches(matrix: &Matrix<'_>, facts: &Facts) -> Result<Vec<Result<Cell>>> {
    let cells = matrix.all().filter(|(_, _, operation)| *operation == Operation::Watch);
    let opened = join_all(cells.map(|(row, flavour, _)| Open::start(matrix, row, flavour))).await;
    let mut opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
    sleep(matrix.idle).await;
    let kept_alive = timers(opened.iter_mut().filter_map(Open::goes_on).collect()).await;
    let change = format!("patch configmap watched -n {NAMESPACE} --patch {{\"data\":{{\"value\":\"2\"}}}}");
    matrix.cluster.kubectl(&change).await?;
    let mut ended = join_all(opened.into_iter().map(|open| open.end(facts))).await;
    ended.extend(kept_alive.err().map(Err));
    Ok(ended)
}

/// A client's watch, from the moment when it says that it watches.
struct Open<'a> {
    row: &'a Row,
    flavour: Flavour,
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: JoinHandle<String>,
    /// What it said so far.
    said: String,
    watching: bool,
}

impl Open<'_> {
    async fn start<'a>(matrix: &Matrix<'_>, row: &'a Row, flavour: Flavour) -> Result<Open<'a>> {
        let mut command =
            matrix.cluster.exec_command(NAMESPACE, row.name, &cell::line(row, flavour, Operation::Watch));
        let mut child = command.spawn().context("start kubectl")?;
        let out = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut err = child.stderr.take().context("its errors")?;
        let err = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let _ = err.read_to_end(&mut bytes).await;
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let mut open = Open { row, flavour, child, out, err, said: String::new(), watching: false };
        // One that ends before is judged like the others; one that hangs must not count as idle.
        let begun = timeout(OPEN, open.until_watching()).await;
        begun.with_context(|| {
            format!(
                "{} / {}: it does not watch after {} s: {}",
                row.name,
                flavour.file(),
                OPEN.as_secs(),
                open.said
            )
        })??;
        Ok(open)
    }

    async fn until_watching(&mut self) -> Result<()> {
        while let Some(line) = self.out.next_line().await? {
            self.watching = line == "watching";
            self.said += &format!("{line}\n");
            if self.watching {
                break;
            }
        }
        Ok(())
    }

    /// Its name, if it watches and has not given up.
    fn goes_on(&mut self) -> Option<String> {
        let running = matches!(self.child.try_wait(), Ok(None));
        (running && self.watching).then(|| format!("{} / {}", self.row.name, self.flavour.file()))
    }

    async fn end(mut self, facts: &Facts) -> Result<Cell> {
        let answer = match timeout(SEEN, self.rest()).await {
            Ok(answer) => answer,
            Err(_) => self.overdue().await,
        };
        cell::judge(facts, self.row, self.flavour, Operation::Watch, answer)
    }

    async fn rest(&mut self) -> Result<String> {
        while let Some(line) = self.out.next_line().await? {
            self.said += &format!("{line}\n");
        }
        let status = self.child.wait().await?;
        let err = (&mut self.err).await?;
        ensure!(status.success(), "{status}: {}{}", self.said, err.trim());
        if let Some(sign) = self.row.keep_alive {
            ensure!(
                err.contains(sign),
                "it does not tell of its keep-alive, {sign:?}: {}{}",
                self.said,
                err.trim()
            );
        }
        Ok(self.said.trim_end().to_owned())
    }

    async fn overdue(&mut self) -> Result<String> {
        self.child.kill().await?;
        let err = (&mut self.err).await?;
        bail!("no change is seen within {} s: {}{}", SEEN.as_secs(), self.said, err.trim())
    }
}

/// At the gateway every client's connection has TCP's keep-alive timer set, or one for what is on the way
/// just now.
async fn timers(watches: Vec<String>) -> Result<()> {
    let mut seen = 0;
    for process in gateways()? {
        let mut command = Command::new("nsenter");
        command.args([
            "--net",
            "--target",
            &process,
            "ss",
            "-Htno",
            "state",
            "established",
            "( sport = :8080 or sport = :8443 )",
        ]);
        let output = command.output().await.context("run nsenter and ss")?;
        ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
        for connection in String::from_utf8(output.stdout)?.lines() {
            ensure!(
                connection.contains("timer:("),
                "a client's connection that nothing keeps alive: {connection}"
            );
            seen += usize::from(connection.contains("timer:(keepalive"));
        }
    }
    ensure!(
        seen >= watches.len(),
        "only {seen} connections of clients are kept alive for the watches {}",
        watches.join(", ")
    );
    Ok(())
}

/// Process ids. Every process of the cluster is in this session's namespace.
fn gateways() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if exe.file_name().is_some_and(|name| name == "connectors-gateway") {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    ensure!(!found.is_empty(), "no process is a gateway");
    Ok(found)
}
