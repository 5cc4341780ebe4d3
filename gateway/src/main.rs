//! Start and end of the process: settings, logs, the control runtime (watches, reviews, admin port)
//! and pingora's server for the data plane. The seam is chosen here: a home cluster, or files
//! (`--manifests`).

mod drain;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use clap::Parser;
use connectors_api::api_server::asked_once;
use connectors_api::{logs, names};
use connectors_gateway::admin::probe::ProbeEndpoint;
use connectors_gateway::admin::server::{Tls, WhenFull, serve as serve_control};
use connectors_gateway::admin::{Admin, Readiness};
use connectors_gateway::admit::authenticate::Authenticator;
use connectors_gateway::flags::{Flags, LogFormat, version};
use connectors_gateway::gateway::Gateway;
use connectors_gateway::gateway::Parts;
use connectors_gateway::home::around::{self, Around};
use connectors_gateway::home::cluster::Cluster;
use connectors_gateway::listen::accept::Ports;
use connectors_gateway::log::lines::Lines;
use connectors_gateway::metrics::Metrics;
use connectors_gateway::probe::Prober;
use connectors_gateway::settings::watch::Live;
use connectors_gateway::settings::{Listeners, Tokens};
use connectors_gateway::table::watch::Publisher;
use connectors_gateway::tls::issuer;
use connectors_gateway::upstream::policy::{self, Known, Surroundings};
use connectors_gateway::workers::Workers;
use connectors_gateway::{home, log, standalone, table};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let lines = Lines::new(std::io::stderr());
    log_to(&lines, flags.log_format);
    let _ended = EndOfLog(lines.clone());
    write_before_panics(lines.clone());
    let live = Live::load(&flags.settings_dir, flags.manifests.is_none())?;
    tracing::info!(settings = ?live.current.load(), version = version(), "connectors-gateway starts");
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let metrics = Arc::new(Metrics::new()?);
    let started = control.block_on(start(&flags, &live, &metrics, &control))?;
    control.spawn(live.follow(metrics));
    serve(&control, started, lines)
}

const LOGGED: &str = "info,pingora_core=warn";

/// Pingora's own `log` lines arrive through tracing's bridge.
fn log_to(lines: &Lines, format: LogFormat) {
    let subscriber =
        tracing_subscriber::registry().with(logs::filter(LOGGED)).with(filter_fn(logs::harmless));
    match format {
        LogFormat::Json => subscriber.with(log::Json::new(lines.clone())).init(),
        LogFormat::Text => {
            subscriber.with(tracing_subscriber::fmt::layer().with_writer(lines.clone())).init()
        }
    }
}

/// To be declared before whatever may log while it is dropped: what waits is written when `main` returns.
struct EndOfLog(Lines);

impl Drop for EndOfLog {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A panic ends the process without dropping anything, whatever the profile: half a gateway is worse than
/// none.
fn write_before_panics(lines: Lines) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        lines.end();
        tell(panic);
        std::process::abort();
    }));
}

/// What `serve` puts behind ports.
struct Started {
    gateway: Arc<Gateway>,
    admin: Admin,
    /// With the name by which the controller comes; none without a cluster.
    probe: Option<(ProbeEndpoint, String)>,
}

async fn start(
    flags: &Flags,
    live: &Live,
    metrics: &Arc<Metrics>,
    control: &Runtime,
) -> anyhow::Result<Started> {
    match (&flags.manifests, &flags.clients, &flags.ca_cert, &flags.ca_key) {
        (Some(manifests), Some(clients), Some(ca_certificate), Some(ca_key)) => {
            let files = standalone::Files {
                manifests: manifests.clone(),
                clients: clients.clone(),
                ca_certificate: ca_certificate.clone(),
                ca_key: ca_key.clone(),
            };
            from_files(&files, live, metrics)
        }
        _ => from_cluster(flags, live, metrics, control).await,
    }
}

fn from_files(files: &standalone::Files, live: &Live, metrics: &Arc<Metrics>) -> anyhow::Result<Started> {
    let (parts, standalone) = files.load(live.current.clone(), metrics.clone())?;
    let surroundings = policy::alone();
    let readiness = Readiness { synced: standalone.synced(), ..readiness(&parts, live, &surroundings) };
    let admin = Admin { readiness, metrics: metrics.clone() };
    Ok(Started { gateway: Gateway::new(parts, surroundings)?, admin, probe: None })
}

async fn from_cluster(
    flags: &Flags,
    live: &Live,
    metrics: &Arc<Metrics>,
    control: &Runtime,
) -> anyhow::Result<Started> {
    let config = kube::Config::infer()
        .await
        .context("no cluster: run in a Pod, set KUBECONFIG, or give --manifests")?;
    let surroundings =
        Surroundings::new(ArcSwap::from_pointee(Known { pod: flags.pod_ips.clone(), ..Known::default() }));
    let around = Around::new(&flags.namespace, &flags.cluster_domain, config.cluster_url.clone());
    around.look_at_api_server(&surroundings).await;
    control.spawn(around::keep_looking(around, surroundings.clone()));
    let client = kube::Client::try_from(asked_once(config))?;
    let cluster = Arc::new(Cluster::new(
        client.clone(),
        control.handle().clone(),
        live.current.clone(),
        metrics.clone(),
    ));
    let parts = Parts::new(live.current.clone(), cluster.clone(), cluster.clone(), metrics.clone())?;
    let readiness = readiness(&parts, live, &surroundings);
    let publisher = Publisher {
        table: parts.table.clone(),
        synced: readiness.synced.clone(),
        watches: readiness.watches.clone(),
        metrics: metrics.clone(),
        connectors: live.current.load().metrics.connectors,
    };
    let (domain, own) = (flags.cluster_domain.clone(), flags.namespace.clone());
    let objects = client.clone();
    control.spawn(async move { table::watch::follow(objects, &domain, &own, publisher).await });
    let (namespace, learned, watched) = (flags.namespace.clone(), surroundings.clone(), metrics.clone());
    let ranges = client.clone();
    control.spawn(async move { home::ranges::follow(ranges, &namespace, learned, watched).await });
    let (namespace, issuer, watched) = (flags.namespace.clone(), parts.issuer.clone(), metrics.clone());
    control.spawn(async move { issuer::follow(client, &namespace, issuer, watched).await });
    let gateway = Gateway::new(parts, surroundings)?;
    let settings = live.current.load_full();
    let tokens = Tokens { audience: names::PROBE_AUDIENCE.to_owned(), ..settings.tokens.clone() };
    let authenticator =
        Authenticator::new(cluster, &tokens, &settings.authorization, metrics.caches.tokens.clone())?;
    let controller = || names::service_account_user(&flags.namespace, names::CONTROLLER);
    let user = flags.controller_user.clone().unwrap_or_else(controller);
    let probe = ProbeEndpoint::new(authenticator, user, Prober::new(gateway.clone()));
    let host = format!("{}.{}.svc", names::GATEWAY_ADMIN, flags.namespace);
    let admin = Admin { readiness, metrics: metrics.clone() };
    Ok(Started { gateway, admin, probe: Some((probe, host)) })
}

fn readiness(parts: &Parts, live: &Live, surroundings: &Surroundings) -> Readiness {
    Readiness {
        issuer: parts.issuer.clone(),
        surroundings: surroundings.clone(),
        settings_error: live.error.clone(),
        ..Readiness::default()
    }
}

/// The ports for kubelet, metrics and probes, which outlive the drain.
fn serve_ports(
    control: &Runtime,
    listeners: &Listeners,
    gateway: &Arc<Gateway>,
    admin: Admin,
    probe: Option<(ProbeEndpoint, String)>,
) -> anyhow::Result<()> {
    let bind = |address: SocketAddr, name: &str| {
        control.block_on(TcpListener::bind(address)).with_context(|| format!("binding listeners.{name}"))
    };
    let admin = Arc::new(admin);
    let answer = move |request| {
        let admin = admin.clone();
        async move { admin.answer(request).await }
    };
    let health = bind(listeners.health, "health")?;
    control.spawn(serve_control(health, WhenFull::CloseOldest, None, answer.clone()));
    control.spawn(serve_control(bind(listeners.admin, "admin")?, WhenFull::Wait, None, answer));
    if let Some((probe, host)) = probe {
        let (probe, gateway) = (Arc::new(probe), gateway.clone());
        let answer = move |request| {
            let probe = probe.clone();
            async move { probe.answer(request).await }
        };
        let tls: Tls = Some(Arc::new(move || gateway.leaves.own(&host)));
        control.spawn(serve_control(bind(listeners.probe, "probe")?, WhenFull::Wait, tls, answer));
    }
    Ok(())
}

/// Until a signal ends it. The main thread is pingora's.
fn serve(control: &Runtime, started: Started, lines: Lines) -> anyhow::Result<()> {
    let Started { gateway, admin, probe } = started;
    let now = gateway.parts.settings.load_full();
    let draining = admin.readiness.draining.clone();
    serve_ports(control, &now.listeners, &gateway, admin, probe)?;
    let signals =
        drain::Signals { control: control.handle().clone(), draining, gateway: gateway.clone(), lines };
    let configuration = ServerConf {
        // It accepts; the workers are our own.
        threads: 1,
        // `drain` decides when the process ends, at the latest after timeouts.drain; pingora would always
        // wait this long.
        grace_period_seconds: Some(drain::FOR_EVER.as_secs()),
        ..ServerConf::default()
    };
    let workers =
        Workers::start(now.worker_threads(), &gateway.parts.metrics).context("starting the workers")?;
    let ports = Ports::bind(&gateway, workers, now.listeners.http, now.listeners.https)?;
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    server.add_service(ports);
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    Ok(())
}
