//! Start of the node driver: settings, logs, API client; then `connectors_csi::run`. `healthcheck` asks the
//! running one.

use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::Context;
use clap::{Parser, Subcommand};
use connectors_api::api_server::asked_once;
use connectors_api::logs::{self, Lines};
use connectors_csi::{Error, LogFormat, Settings, healthcheck, registered, run};
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version = version(), about = "CSI node driver of Connectors")]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Exit 0 if the driver answers on its socket: for the liveness probe
    Healthcheck {
        /// And if a kubelet has registered it, for which it waits up to 5 s: for the readiness probe
        #[arg(long)]
        registered: bool,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Command::Healthcheck { registered }) = cli.command {
        ask(&cli.settings, registered).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines = Lines::new(std::io::stderr());
    logs::start(&lines, "info", cli.settings.log_format == LogFormat::Json);
    logs::abort_after_panics(lines.clone());
    let ended = start(cli.settings).await;
    if let Err(error) = &ended {
        logs::stopped(error);
    }
    lines.end();
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start(settings: Settings) -> anyhow::Result<()> {
    anyhow::ensure!(
        !settings.node_name.is_empty(),
        "--node-name (NODE_NAME) is required: the name of this node"
    );
    tracing::info!(?settings, version = version(), "starting");
    // Sockets and folders are root's from the first moment; files of volumes get their modes explicitly.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let config = kube::Config::infer().await.context("no access to the API server")?;
    let client = kube::Client::try_from(asked_once(config)).context("no access to the API server")?;
    Ok(run(settings, client, terminated()?).await?)
}

async fn ask(settings: &Settings, whether_registered: bool) -> Result<(), Error> {
    if whether_registered {
        return registered(&settings.csi_socket, &settings.registration_dir).await;
    }
    healthcheck(&settings.csi_socket).await
}

/// Security updates of the library arrive by a new build: it must be seen which one is in.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), openssl::version::version()));
    &VERSION
}

/// Ends at SIGTERM or SIGINT.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
