//! One client of the matrix: how its program is called, what it needs of this machine, what it cannot do.

use super::{Flavour, Mount, Operation};

pub struct Row {
    /// Its Pod's name, and the folder of its program unless it shares one.
    pub name: &'static str,
    pub title: &'static str,
    /// The shell words that start its program, before kubeconfig, operation and name.
    pub program: String,
    /// What the program needs beside the folder `acceptance/clients`.
    pub mounts: Vec<Mount>,
    /// What its `watch` says at the end.
    pub watched: &'static str,
    /// Its `watch` must say this, if anything: the sign of its keep-alive.
    pub keep_alive: Option<&'static str>,
    pub cannot: Vec<Cannot>,
    /// What a reader should know beside that.
    pub note: Option<&'static str>,
}

/// Declared and verified: it fails, and these are its words.
pub struct Cannot {
    /// None: over either.
    pub flavour: Option<Flavour>,
    pub operations: &'static [Operation],
    /// In the output of the client.
    pub says: &'static str,
    /// For the reader of `docs/clients.md`.
    pub because: &'static str,
}

impl Row {
    pub fn new(
        name: &'static str,
        title: &'static str,
        program: impl Into<String>,
        mounts: Vec<Mount>,
    ) -> Row {
        Row {
            name,
            title,
            program: program.into(),
            mounts,
            watched: "changed to 2",
            keep_alive: None,
            cannot: Vec::new(),
            note: None,
        }
    }

    pub fn cannot(&self, flavour: Flavour, operation: Operation) -> Option<&Cannot> {
        let here = |cannot: &&Cannot| {
            cannot.flavour.is_none_or(|only| only == flavour) && cannot.operations.contains(&operation)
        };
        self.cannot.iter().find(here)
    }
}
