//! `docs/clients.md`: what a run has found out, for readers. The same result gives the same text.

use std::fmt::Write;

use anyhow::{Context, Result};

use connectors_acceptance::matrix::{Cell, Flavour, Found, Operation, Outcome, Row};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients.md");

const INTRODUCTION: &str = "\
# Clients

`make test-clients` writes this page, from what it has just seen: every cell below is a run of that client through the gateway on a real
node, and the command fails when a ✓ breaks or a reason for a number is no longer true. Change `acceptance/tests/clients` and
`acceptance/clients`, not this page.

Each client runs in a Pod that mounts both kubeconfigs of class `k8s`; the target is the API server of the same cluster.

* *as it is*: lists with nothing but the kubeconfig. Where that needs a line of help in the program (see the number), the other columns have it.
* *watch*: open for 30 s without an event, then a change arrives (`CONNECTORS_CLIENTS_IDLE=600` makes it ten minutes). Meanwhile TCP's
  keep-alive is set on each connection, and PINGs pass on HTTP/2. helm: an installation that waits as long.
* *create*: create, patch, delete, and then it is gone. *logs*: followed, line by line. *exec*: with standard input and an exit status.
* *cp*: 64 MiB into a Pod and back with the same checksum. *port-forward*: eight downloads at once.
";

pub fn write(rows: &[Row], found: &Found) -> Result<()> {
    let mut page = INTRODUCTION.to_owned();
    let mut reasons: Vec<&str> = Vec::new();
    for flavour in Flavour::ALL {
        table(&mut page, flavour, rows, found, &mut reasons)?;
    }
    page += "\n## What a client cannot do, and why\n\n";
    for (n, reason) in reasons.iter().enumerate() {
        writeln!(page, "{}. {reason}.", n + 1)?;
    }
    page += "\n## What else to know\n\n";
    for note in rows.iter().filter_map(|row| row.note) {
        writeln!(page, "* {note}")?;
    }
    std::fs::write(FILE, page).with_context(|| format!("write {FILE}"))
}

fn table<'a>(
    page: &mut String,
    flavour: Flavour,
    rows: &[Row],
    found: &'a Found,
    reasons: &mut Vec<&'a str>,
) -> Result<()> {
    writeln!(page, "\n## {}\n", title(flavour))?;
    writeln!(page, "| client | {} |", Operation::ALL.map(column).join(" | "))?;
    writeln!(page, "|---|{}", ":-:|".repeat(Operation::ALL.len()))?;
    for (row, version) in rows.iter().zip(&found.versions) {
        write!(page, "| {} {version} |", row.title)?;
        for operation in Operation::ALL {
            let here =
                |cell: &&Cell| cell.row == row.name && cell.flavour == flavour && cell.operation == operation;
            let cell = found
                .cells
                .iter()
                .find(here)
                .with_context(|| format!("no cell of {} {operation:?}", row.name))?;
            match cell.outcome {
                Outcome::Did => write!(page, " ✓ |")?,
                Outcome::Could(reason) => write!(page, " {} |", number(reasons, reason))?,
            }
        }
        writeln!(page)?;
    }
    Ok(())
}

fn number<'a>(reasons: &mut Vec<&'a str>, reason: &'a str) -> usize {
    let known = reasons.iter().position(|known| *known == reason);
    1 + known.unwrap_or_else(|| {
        reasons.push(reason);
        reasons.len() - 1
    })
}

fn title(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Proxy => "`kubeconfig`: the target's address, through `proxy-url`",
        Flavour::Reverse => "`kubeconfig-reverse`: the connector's own host, no proxy",
    }
}

fn column(operation: Operation) -> &'static str {
    match operation {
        Operation::Plain => "as it is",
        Operation::List => "list",
        Operation::Watch => "watch",
        Operation::Write => "create",
        Operation::Logs => "logs",
        Operation::Exec => "exec",
        Operation::Copy => "cp",
        Operation::Forward => "port-forward",
    }
}
