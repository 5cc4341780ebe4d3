//! The command line of the test environment: `run`, `shell` and `tools`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use connectors_testenv::session::{Options, Stage, Task, inside, run};
use connectors_testenv::{tool, tool_names};

const EXAMPLES: &str = "Examples:
  testenv run -- kubectl get nodes
  testenv run --home node --target node --image gateway.tar -- ./quick-start.sh
  testenv run --home control-plane -- kubectl api-resources      (no root)
  testenv shell --target control-plane
  testenv tools kubectl h2spec

The command finds: KUBECONFIG (home), TARGET_KUBECONFIG, TARGET_URL, TARGET_CA (the second cluster), TESTENV_DIR (scratch
folder with logs in log/), and kubectl first in PATH. Built tools are kept in $CONNECTORS_CACHE, by default ~/.cache/connectors.";

/// A real Kubernetes for one command, gone when the command ends.
#[derive(Parser)]
#[command(name = "testenv", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start clusters, run a command beside them, end them; exits with the command's status.
    #[command(after_help = EXAMPLES)]
    Run {
        #[command(flatten)]
        options: Options,
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// The same with your shell.
    Shell {
        #[command(flatten)]
        options: Options,
    },
    /// Build tools if they are missing and print their paths; all of them without a name.
    Tools { names: Vec<String> },
    /// What runs inside the namespaces of a run.
    #[command(hide = true)]
    Inside { stage: Stage, plan: PathBuf },
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().action {
        Action::Run { options, command } => run(options, Task::Command(command)).await,
        Action::Shell { options } => run(options, Task::Shell).await,
        Action::Tools { names } => print_tools(names),
        Action::Inside { stage, plan } => inside(stage, &plan).await,
    };
    ended.map_or_else(|error| fail(&error), ExitCode::from)
}

#[allow(clippy::print_stdout, reason = "the answer of a command line")]
fn print_tools(names: Vec<String>) -> anyhow::Result<u8> {
    let names = if names.is_empty() { tool_names().map(str::to_owned).collect() } else { names };
    for name in names {
        println!("{}", tool(&name)?.display());
    }
    Ok(0)
}

#[allow(clippy::print_stderr, reason = "the answer of a command line")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("testenv: {error:#}");
    ExitCode::FAILURE
}
