//! Command line of the control plane: settings, logs, signals. Everything else begins in `lib.rs`.

use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use connectors_api::api_server::asked_once;
use connectors_api::logs::{self, Lines};
use connectors_controller::prober::GatewayProber;
use connectors_controller::settings::{LogFormat, Settings};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Without kube's own line for each failed request: ours says what it was for.
const LOGGED: &str = "info,kube_client::client::builder=off";

#[tokio::main]
async fn main() -> ExitCode {
    let mut command = Settings::command().version(version());
    let settings = Settings::from_arg_matches(&command.clone().get_matches())
        .and_then(|settings| match settings.check() {
            Ok(()) => Ok(settings),
            Err(why) => Err(command.error(ErrorKind::ValueValidation, why)),
        })
        .unwrap_or_else(|error| error.exit());
    let lines = Lines::new(std::io::stderr());
    logs::start(&lines, LOGGED, settings.log_format == LogFormat::Json);
    logs::abort_after_panics(lines.clone());
    tracing::info!(version = version(), ?settings, "starting");
    let ended = start(settings, lines.clone()).await;
    if let Err(error) = &ended {
        logs::stopped(error);
    }
    lines.end();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Security updates of the library arrive by a new build: it must be seen which one is in.
fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} ({})", env!("CARGO_PKG_VERSION"), openssl::version::version()));
    &VERSION
}

async fn start(settings: Settings, lines: Lines) -> anyhow::Result<()> {
    let config =
        kube::Config::infer().await.context("no Kubernetes API server: run in a Pod or set KUBECONFIG")?;
    let client =
        kube::Client::try_from(asked_once(config)).context("no access to the Kubernetes API server")?;
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
    connectors_controller::run(settings, client, Arc::new(prober), move || lines.lost(), shutdown).await?;
    Ok(())
}
