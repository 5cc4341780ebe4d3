//! Every setting of the controller, by flag or environment, with defaults that fit config/. Read once at
//! start by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use connectors_api::names;

/// The control plane of Connectors.
#[derive(Clone, Debug, Parser)]
#[command(name = "connectors-controller", version)]
pub struct Settings {
    /// Namespace of the gateway, the Lease and the connector CA.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// Domain of the cluster's DNS.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Name of this replica in the Lease.
    #[arg(long, env = "POD_NAME", default_value = names::CONTROLLER)]
    pub identity: String,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "ADMIN_ADDRESS", default_value = "0.0.0.0:8081")]
    pub admin_address: SocketAddr,
    /// Port of the gateway that probes targets on the controller's behalf, with a certificate of the connector CA.
    #[arg(
        long,
        env = "GATEWAY_URL",
        default_value = "https://connectors-gateway-admin.connectors-system.svc:9443"
    )]
    pub gateway_url: String,
    /// Projected ServiceAccount token for the gateway's /probe; read again as kubelet renews it.
    #[arg(long, env = "GATEWAY_TOKEN_FILE", default_value = "/var/run/secrets/connectors/probe/token")]
    pub gateway_token_file: PathBuf,
    /// Longest time that one probe may take, in seconds.
    #[arg(long, env = "PROBE_TIMEOUT", default_value = "30", value_parser = seconds)]
    pub probe_timeout: Duration,
    /// How often a Connector is checked when nothing changes, and the ConfigMap of classes read, in seconds.
    #[arg(long, env = "RECHECK", default_value = "60", value_parser = seconds)]
    pub recheck: Duration,
    /// How many Connectors are reconciled at once, at most eight of one namespace.
    #[arg(long, env = "CONCURRENCY", default_value = "256")]
    pub concurrency: u16,
    /// Let every ServiceAccount of a Connector's namespace use it.
    #[arg(long, env = "BIND_NAMESPACE", default_value = "true", action = ArgAction::Set)]
    pub bind_namespace: bool,
    /// Let every ServiceAccount of the cluster use the Connectors of kube-public.
    #[arg(long, env = "BIND_PUBLIC", default_value = "true", action = ArgAction::Set)]
    pub bind_public: bool,
    /// Let the namespaces of a project use the Connectors of its inner namespace.
    #[arg(long, env = "BIND_PROJECT", default_value = "true", action = ArgAction::Set)]
    pub bind_project: bool,
    /// Keep beside each Connector's Service a ConfigMap that Flux reads. Needs the rights of config/rbac/flux.
    #[arg(long, env = "FLUX_CONFIGMAPS", default_value = "false", action = ArgAction::Set)]
    pub flux_configmaps: bool,
    /// Time after which an unrenewed Lease may be taken over, in seconds.
    #[arg(long, env = "LEASE_DURATION", default_value = "15", value_parser = seconds)]
    pub lease_duration: Duration,
    /// Time without a renewal after which this replica stops by itself, in seconds. Shorter than the Lease's
    /// duration.
    #[arg(long, env = "LEASE_DEADLINE", default_value = "10", value_parser = seconds)]
    pub lease_deadline: Duration,
    /// Time between two tries for the Lease, in seconds.
    #[arg(long, env = "LEASE_RETRY", default_value = "2", value_parser = seconds)]
    pub lease_retry: Duration,
    /// json for machines, text for people.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

impl Settings {
    /// What no single value tells.
    pub fn check(&self) -> Result<(), String> {
        let (retry, deadline, duration) = (self.lease_retry, self.lease_deadline, self.lease_duration);
        match retry < deadline && deadline + retry <= duration {
            true => Ok(()),
            false => Err(format!(
                "--lease-retry ({retry:?}) must be shorter than --lease-deadline ({deadline:?}), and both together no longer than --lease-duration ({duration:?}): or two replicas would work at the same time"
            )),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    let duration =
        Duration::try_from_secs_f64(value).map_err(|_| format!("{text} is not a possible time"))?;
    if duration.is_zero() { Err("must be more than 0".into()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_the_manifests_and_the_lease_is_given_up_before_it_can_be_taken() {
        let settings = Settings::parse_from(["connectors-controller"]);
        assert_eq!(
            settings.gateway_url,
            format!("https://{}.{}.svc:{}", names::GATEWAY_ADMIN, names::SYSTEM_NAMESPACE, names::PROBE_PORT)
        );
        settings.check().unwrap();
        assert!(settings.bind_namespace && settings.bind_public && settings.bind_project);
        assert!(!settings.flux_configmaps, "its rights are not part of config/default");
    }

    #[test]
    fn times_of_the_lease_that_would_let_two_work_at_once_are_refused() {
        for (duration, deadline, retry, fits) in [
            ("15", "10", "2", true),
            ("15", "15", "2", false),
            ("15", "14", "2", false),
            ("15", "2", "2", false),
        ] {
            let times = ["--lease-duration", duration, "--lease-deadline", deadline, "--lease-retry", retry];
            let settings = Settings::parse_from(["connectors-controller"].into_iter().chain(times));
            assert_eq!(settings.check().is_ok(), fits, "{times:?}: {:?}", settings.check());
        }
    }

    #[test]
    fn a_time_of_zero_or_nonsense_is_refused_with_a_sentence() {
        for (text, part) in
            [("0", "more than 0"), ("-1", "not a possible time"), ("soon", "not a number of seconds")]
        {
            assert!(seconds(text).unwrap_err().contains(part), "{text}");
        }
    }
}
