//! Command line of the control plane: settings, logs, signals. Everything else begins in `lib.rs`.

use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use connectors_controller::prober::GatewayProber;
use connectors_controller::settings::{LogFormat, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Without kube's own line for each failed request: ours says what it was for.
const LOGGED: &str = "info,kube_client::client::builder=off";

#[tokio::main]
async fn main() -> ExitCode {
    abort_after_panics();
    let command = Settings::command().version(version());
    let settings = Settings::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    log_to_stderr(settings.log_format);
    tracing::info!(version = version(), ?settings, "starting");
    match start(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever the profile: half a controller is worse than none.
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

/// Longer than the API server keeps a watch open (290 s as kube asks for it): only a peer that is gone is
/// silent for so long.
const SILENCE: Duration = Duration::from_secs(295);

async fn start(settings: Settings) -> anyhow::Result<()> {
    let mut config =
        kube::Config::infer().await.context("no Kubernetes API server: run in a Pod or set KUBECONFIG")?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // kube would try again up to 15 times, for as long as an answer's Retry-After says, while a walk keeps its
    // place and its namespace's lock: `schedule` decides when to ask again.
    config.default_retry = false;
    let client = kube::Client::try_from(config).context("no access to the Kubernetes API server")?;
    let prober = GatewayProber::new(&settings.gateway_url, &settings.gateway_token_file)
        .context("the gateway cannot be asked to probe: check --gateway-url and --gateway-token-file")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    connectors_controller::run(settings, client, Arc::new(prober), shutdown).await?;
    Ok(())
}

fn log_to_stderr(format: LogFormat) {
    // A word of RUST_LOG that is no level is taken for the name of a part, and must not silence all others.
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(format!("{LOGGED},{asked}")).unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().finish().with(filter_fn(harmless)).init(),
        LogFormat::Text => builder.finish().with(filter_fn(harmless)).init(),
    }
}

/// Whatever RUST_LOG says: kube logs whole answers that it cannot read, Secrets among them, below this level.
fn harmless(line: &Metadata<'_>) -> bool {
    line.target() != "kube_client::client" || *line.level() == Level::ERROR
}
