//! One cell: a client, a kubeconfig, an operation; what it must answer, or why it cannot.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::timeout;

use super::pods::Facts;
use super::{Matrix, Row};

/// Enough for the largest copy by the slowest client on a busy machine.
const LONGEST: Duration = Duration::from_secs(180);

/// The kubeconfigs of class `k8s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    Proxy,
    Reverse,
}

impl Flavour {
    pub const ALL: [Flavour; 2] = [Flavour::Proxy, Flavour::Reverse];

    /// The configuration's name, which is its file's too.
    pub fn file(self) -> &'static str {
        match self {
            Flavour::Proxy => "kubeconfig",
            Flavour::Reverse => "kubeconfig-reverse",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Lists with nothing but the kubeconfig: what follows may need a line of help in the client's program.
    Plain,
    List,
    Watch,
    Write,
    Logs,
    Exec,
    Copy,
    Forward,
}

impl Operation {
    pub const ALL: [Operation; 8] = [
        Operation::Plain,
        Operation::List,
        Operation::Watch,
        Operation::Write,
        Operation::Logs,
        Operation::Exec,
        Operation::Copy,
        Operation::Forward,
    ];

    /// As the client programs know it.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Plain => "plain",
            Operation::List => "list",
            Operation::Watch => "watch",
            Operation::Write => "write",
            Operation::Logs => "logs",
            Operation::Exec => "exec",
            Operation::Copy => "copy",
            Operation::Forward => "forward",
        }
    }
}

/// As declared, and so it was.
pub enum Outcome {
    Did,
    Could(&'static str),
}

pub struct Cell {
    pub row: &'static str,
    pub flavour: Flavour,
    pub operation: Operation,
    pub outcome: Outcome,
}

/// Runs one cell; an error tells what was not as declared.
pub(super) async fn run(
    matrix: &Matrix<'_>,
    facts: &Facts,
    row: &Row,
    flavour: Flavour,
    operation: Operation,
) -> Result<Cell> {
    let line = line(row, flavour, operation);
    let answer = timeout(LONGEST, matrix.cluster.exec(super::pods::NAMESPACE, row.name, &line)).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no end after {} s", LONGEST.as_secs())));
    judge(facts, row, flavour, operation, answer)
}

/// Compares what a client answered with what is declared of it.
pub(super) fn judge(
    facts: &Facts,
    row: &Row,
    flavour: Flavour,
    operation: Operation,
    answer: Result<String>,
) -> Result<Cell> {
    let outcome = match (row.cannot(flavour, operation), answer) {
        (None, answer) => answer.and_then(|said| right(facts, row, operation, &said)).map(|()| Outcome::Did),
        (Some(cannot), Err(error)) if format!("{error:#}").contains(cannot.says) => {
            Ok(Outcome::Could(cannot.because))
        }
        (Some(cannot), Err(error)) => {
            Err(error.context(format!("it fails, but does not say {:?}", cannot.says)))
        }
        (Some(cannot), Ok(said)) => {
            Err(anyhow::anyhow!("it can, although declared that {:?}: {said}", cannot.because))
        }
    };
    let outcome =
        outcome.with_context(|| format!("{} / {} / {}", row.name, flavour.file(), operation.word()))?;
    Ok(Cell { row: row.name, flavour, operation, outcome })
}

/// The shell line of a cell. What it makes is called after it.
pub(super) fn line(row: &Row, flavour: Flavour, operation: Operation) -> String {
    let kubeconfig = flavour.file();
    let name = format!("{}-{kubeconfig}-{}", row.name, operation.word());
    format!("{} /opt/kube/{kubeconfig} {} {name}", row.program, operation.word())
}

/// The client's own word on its version.
pub(super) async fn version(matrix: &Matrix<'_>, row: &Row) -> Result<String> {
    let said = matrix
        .cluster
        .exec(super::pods::NAMESPACE, row.name, &format!("{} none version none", row.program))
        .await?;
    let version = said.trim().trim_start_matches('v');
    ensure!(!version.is_empty(), "{} does not tell its version", row.name);
    Ok(version.to_owned())
}

/// The last line that a client prints is its answer.
fn right(facts: &Facts, row: &Row, operation: Operation, said: &str) -> Result<()> {
    let answer = said.lines().last().unwrap_or_default();
    if operation == Operation::Logs {
        return consecutive(answer);
    }
    let expected = match operation {
        Operation::Plain | Operation::List => "listed-1,listed-2,listed-3".to_owned(),
        Operation::Watch => row.watched.to_owned(),
        Operation::Write => "created 1, patched 2, gone".to_owned(),
        Operation::Exec => "got hello, exit 7".to_owned(),
        Operation::Copy => facts.file_of(row)?,
        Operation::Forward => format!("8 of {}", facts.served),
        Operation::Logs => return Ok(()),
    };
    ensure!(answer == expected, "expected {expected:?}, found {said:?}");
    Ok(())
}

/// Four lines of the server, none left out.
fn consecutive(answer: &str) -> Result<()> {
    let numbers: Option<Vec<u64>> =
        answer.split(',').map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    match numbers.as_deref() {
        Some([a, b, c, d]) if a + 1 == *b && b + 1 == *c && c + 1 == *d => Ok(()),
        _ => bail!("not four lines one after the other: {answer:?}"),
    }
}
