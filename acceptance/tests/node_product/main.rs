//! The product on a real node: Connectors installed by Helm, the quick start, and what may go
//! wrong around it. Cargo starts this program outside; it starts itself again inside of `testenv run`, where
//! one cluster serves all checks: first those that share it in peace (each has a namespace of its own), then
//! those that take parts of it down.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is its own test runner")]

mod client_matrix;
mod connectors;
mod mounts;
mod pages;
mod path_address;
mod quick_start;
mod restarts;
mod settings;
mod streams;
mod surroundings;
mod tokens;
mod upgrade;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use connectors_testenv::tool;
use futures::future::{join, join_all};

use connectors_acceptance::cluster::Cluster;
use connectors_acceptance::start;

/// Set in the inner run. Its value does not matter.
const INSIDE: &str = "CONNECTORS_NODE_TESTS";

type Check<'a> = (&'static str, std::pin::Pin<Box<dyn Future<Output = Result<()>> + 'a>>);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    // What `cargo test -- WORDS` gives: names that contain one of the words are run. Tools that list tests
    // find none here.
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::var_os(INSIDE).is_none() {
        // Built outside: inside there is no network to fetch with.
        tokio::task::spawn_blocking(|| tool("client-go").and_then(|_| tool("helm"))).await??;
        return start::again_beside_a_node(INSIDE, &words);
    }
    let cluster = Cluster::install().await?;
    let short =
        async { together(peaceful(&cluster), &words).await + one_by_one(disturbing(&cluster), &words).await };
    // What takes minutes of waiting leaves the others the machine, and minds none of them but the last.
    let (long, short) = join(together(lasting(&cluster), &words), short).await;
    let failed = long + short + one_by_one(ending_streams(&cluster), &words).await;
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}", cluster.explain().await);
    Ok(ExitCode::FAILURE)
}

fn peaceful(cluster: &Cluster) -> Vec<Check<'_>> {
    vec![
        ("the_quick_start_lists_the_targets_pods", Box::pin(quick_start::lists_the_targets_pods(cluster))),
        (
            "the_pod_finds_the_documented_kubeconfig_and_no_other_token",
            Box::pin(quick_start::documented_kubeconfig(cluster)),
        ),
        ("what_the_pages_say_can_be_typed_as_it_stands", Box::pin(pages::followed(cluster))),
        ("helm_test_passes_and_leaves_nothing_behind", Box::pin(quick_start::helm_test(cluster))),
        ("an_address_with_a_path_keeps_its_path", Box::pin(path_address::keeps_its_path(cluster))),
        (
            "a_connector_of_another_namespace_takes_a_binding",
            Box::pin(connectors::of_another_namespace(cluster)),
        ),
        ("a_wrong_secret_is_told_by_reason_and_message", Box::pin(connectors::with_a_wrong_secret(cluster))),
        ("a_rotated_secret_is_used_without_a_restart", Box::pin(connectors::with_a_rotated_secret(cluster))),
        ("a_deleted_connector_leaves_nothing_behind", Box::pin(connectors::deleted(cluster))),
        ("a_connector_that_names_the_gateway_is_refused", Box::pin(connectors::that_leads_back(cluster))),
        ("the_own_api_server_is_a_target", Box::pin(surroundings::the_own_api_server(cluster))),
        ("pods_services_and_nodes_of_the_cluster_are_none", Box::pin(surroundings::everything_else(cluster))),
        ("the_users_annotations_stay", Box::pin(connectors::with_a_description(cluster))),
        ("viewers_see_connectors_and_cannot_use_them", Box::pin(connectors::seen_by_viewers(cluster))),
        ("exec_cp_and_port_forward_pass_over_websocket_and_spdy", Box::pin(streams::upgrades(cluster))),
        ("clients_do_what_the_table_of_clients_says", Box::pin(client_matrix::without_packages(cluster))),
        ("a_wrong_volume_is_told_by_an_event", Box::pin(mounts::wrong_attributes(cluster))),
    ]
}

fn lasting(cluster: &Cluster) -> Vec<Check<'_>> {
    vec![
        ("a_process_of_client_go_outlives_three_tokens", Box::pin(tokens::outlived_by_a_client(cluster))),
        ("what_the_settings_forbid_stays_so_without_their_configmap", Box::pin(settings::deleted(cluster))),
    ]
}

fn disturbing(cluster: &Cluster) -> Vec<Check<'_>> {
    vec![
        (
            "a_connector_that_is_gone_is_told_by_an_event_and_keeps_no_other_file",
            Box::pin(mounts::one_connector_gone(cluster)),
        ),
        (
            "mounts_outlive_the_driver_and_are_refreshed_by_the_next",
            Box::pin(restarts::of_the_driver(cluster)),
        ),
        ("another_controller_takes_over", Box::pin(restarts::of_the_leader(cluster))),
    ]
}

fn ending_streams(cluster: &Cluster) -> Vec<Check<'_>> {
    vec![
        ("a_gateway_that_goes_leaves_the_other", Box::pin(restarts::of_a_gateway(cluster))),
        ("an_upgrade_cuts_no_stream_and_fails_no_request", Box::pin(upgrade::of_everything(cluster))),
    ]
}

async fn one_by_one(checks: Vec<Check<'_>>, words: &[String]) -> usize {
    let mut failed = 0;
    for check in checks {
        failed += together(vec![check], words).await;
    }
    failed
}

/// Runs the checks whose name is asked for side by side; returns how many failed.
async fn together(checks: Vec<Check<'_>>, words: &[String]) -> usize {
    let wanted = checks
        .into_iter()
        .filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word.as_str())));
    let runs = wanted.map(|(name, check)| async move {
        let start = Instant::now();
        let outcome = check.await;
        let seconds = start.elapsed().as_secs_f32();
        match &outcome {
            Ok(()) => println!("test {name} ... ok ({seconds:.1} s)"),
            Err(error) => println!("test {name} ... FAILED ({seconds:.1} s)\n  {error:#}"),
        }
        outcome.is_err()
    });
    join_all(runs).await.into_iter().filter(|failed| *failed).count()
}
