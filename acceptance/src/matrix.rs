//! Clients through the gateway: each client does each operation over each kubeconfig, and every such cell is
//! run and compared with what is declared of it. A client is a program in `acceptance/clients` that runs in a
//! Pod with both kubeconfigs mounted.

mod cell;
mod idle;
mod pods;
mod row;

use std::time::Duration;

use anyhow::Result;
use futures::stream::{self, StreamExt};

pub use cell::{Cell, Flavour, Operation, Outcome};
pub use pods::{Mount, pod};
pub use row::{Cannot, Row};

use crate::cluster::Cluster;

/// As many as the smallest machine has cores: what a cell waits for is mostly computed there.
const AT_ONCE: usize = 2;

pub struct Matrix<'a> {
    pub cluster: &'a Cluster,
    pub rows: Vec<Row>,
    /// What `cp` carries, in bytes.
    pub size: u64,
    /// How long the watches see nothing.
    pub idle: Duration,
}

/// What the run has found out.
pub struct Found {
    pub cells: Vec<Cell>,
    /// Each client's own word on its version, in the order of the rows.
    pub versions: Vec<String>,
    /// One text per cell that is not as declared, and more that is wrong.
    pub wrong: Vec<String>,
}

impl Matrix<'_> {
    /// Runs every cell. The watches are open, and idle, while the others run.
    pub async fn run(&self) -> Result<Found> {
        let facts = pods::start(self).await?;
        let (watches, others) = futures::join!(idle::watches(self, &facts), self.others(&facts));
        let (mut cells, mut wrong) = (Vec::new(), Vec::new());
        for outcome in watches?.into_iter().chain(others) {
            match outcome {
                Ok(cell) => cells.push(cell),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        let mut versions = Vec::new();
        for row in &self.rows {
            versions.push(cell::version(self, row).await?);
        }
        Ok(Found { cells, versions, wrong })
    }

    async fn others(&self, facts: &pods::Facts) -> Vec<Result<Cell>> {
        let cells = self.all().filter(|(_, _, operation)| *operation != Operation::Watch);
        stream::iter(cells)
            .map(|(row, flavour, operation)| cell::run(self, facts, row, flavour, operation))
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    /// Row by row changes fastest, so that the cells that run at once are those of different clients.
    fn all(&self) -> impl Iterator<Item = (&Row, Flavour, Operation)> {
        let each =
            Flavour::ALL.into_iter().flat_map(|flavour| Operation::ALL.map(|operation| (flavour, operation)));
        each.flat_map(|(flavour, operation)| self.rows.iter().map(move |row| (row, flavour, operation)))
    }
}
