//! Start of the node driver: settings, logs, API client; then `connectors_csi::run`. `healthcheck` asks the
//! running one.

use std::sync::LazyLock;

use anyhow::Context;
use clap::{Parser, Subcommand};
use connectors_csi::{Error, LogFormat, Settings, healthcheck, registered, run};
use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
async fn main() -> anyhow::Result<()> {
    abort_after_panics();
    let cli = Cli::parse();
    if let Some(Command::Healthcheck { registered }) = cli.command {
        return Ok(ask(&cli.settings, registered).await?);
    }
    start_logs(cli.settings.log_format);
    anyhow::ensure!(
        !cli.settings.node_name.is_empty(),
        "--node-name (NODE_NAME) is required: the name of this node"
    );
    tracing::info!(settings = ?cli.settings, version = version(), "starting");
    // Sockets and folders are root's from the first moment; files of volumes get their modes explicitly.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let client = kube::Client::try_default().await.context("no access to the API server")?;
    Ok(run(cli.settings, client, terminated()?).await?)
}

async fn ask(settings: &Settings, whether_registered: bool) -> Result<(), Error> {
    if whether_registered {
        return registered(&settings.csi_socket, &settings.registration_dir).await;
    }
    healthcheck(&settings.csi_socket).await
}

/// Whatever the profile: half a driver is worse than none.
fn abort_after_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// Security updates of the library arrive by a new build: it must be seen which one is in.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), openssl::version::version()));
    &VERSION
}

fn start_logs(format: LogFormat) {
    // A word of RUST_LOG that is no level is taken for the name of a part, and must not silence all others.
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(format!("info,{asked}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => logs.json().finish().with(filter_fn(harmless)).init(),
        LogFormat::Text => logs.finish().with(filter_fn(harmless)).init(),
    }
}

/// Whatever RUST_LOG says: kube logs whole answers that it cannot read, and what they hold may be secret,
/// below this level.
fn harmless(line: &Metadata<'_>) -> bool {
    line.target() != "kube_client::client" || *line.level() == Level::ERROR
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
