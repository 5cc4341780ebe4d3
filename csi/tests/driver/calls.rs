//! Kubelet calls for all volumes of its node at once, and again as soon as it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use connectors_csi::healthcheck;
use connectors_testenv::eventually;
use futures::future::join_all;
use http::Request;
use kube::Client;
use kube::client::Body;
use tokio::net::UnixStream;
use tonic::Code;

use crate::cluster::{self, Demo};
use crate::kubelet::{Kubelet, PodVolume};
use crate::namespace::isolated;

/// Of a namespace alone, as `turns` has it.
const NEW: usize = 96;

/// `see` is told the path of each request, before the API server is.
fn between<F>(real: Client, see: impl Fn(String) -> F + Clone + Send + 'static) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let service = tower::service_fn(move |request: Request<Body>| {
        let (real, seen) = (real.clone(), see(request.uri().path().to_owned()));
        async move {
            seen.await;
            real.send(request).await
        }
    });
    Client::new(service, "default")
}

async fn says_nothing_of_many(path: String) {
    if path.contains("/namespaces/many/") {
        std::future::pending().await
    }
}

fn volumes(kubelet: &Kubelet, namespace: &str, number: usize) -> Vec<PodVolume> {
    (0..number).map(|number| kubelet.volume(namespace, &format!("{namespace}-{number}"), "a.token")).collect()
}

#[test]
fn as_many_calls_as_kubelet_makes_for_one_namespace_keep_no_other_waiting() {
    isolated(async {
        let (_many, quiet) = (Demo::new("many").await, Demo::new("few").await);
        let kubelet =
            Kubelet::with_client(between(cluster::drivers_client().await, says_nothing_of_many)).await;
        let mut many = volumes(&kubelet, "many", 4 * NEW);
        let (late, other) = (many.split_off(3 * NEW), &volumes(&kubelet, quiet.namespace, 1)[0]);
        let calls = join_all(many.iter().map(async |volume| kubelet.publish(volume).await));
        let mut late = late.iter();
        tokio::select! {
            biased;
            _ = calls => panic!("the API server has answered"),
            () = async {
                eventually("no more of them are taken", || {
                    let late = tokio::time::timeout(Duration::from_millis(200), kubelet.publish(late.next().unwrap()));
                    async { (late.await.ok()?.unwrap_err().code() == Code::Aborted).then_some(()) }
                })
                .await;
                let began = Instant::now();
                kubelet.publish(other).await.unwrap();
                assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
            } => {}
        }
        kubelet.unpublish(other).await.unwrap();
    });
}

#[test]
fn volumes_with_nothing_to_renew_are_answered_however_many_come_at_once() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("fresh").await, Kubelet::start().await);
        let volumes = volumes(&kubelet, demo.namespace, NEW);
        let again = async || join_all(volumes.iter().map(async |volume| kubelet.publish(volume).await)).await;
        for answer in again().await.into_iter().chain(again().await) {
            answer.unwrap();
        }
        join_all(volumes.iter().map(async |volume| kubelet.unpublish(volume).await.unwrap())).await;
    });
}

/// What a tenant wrote into a Connector is megabytes while it is read.
#[test]
fn no_more_connectors_are_read_at_once_than_calls_have_their_turn() {
    isolated(async {
        let names: Vec<_> = (0..16).map(|number| format!("c{number}")).collect();
        let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (reads, peak) = (now.clone(), most.clone());
        let see = move |path: String| {
            let (reads, peak) = (reads.clone(), peak.clone());
            async move {
                if path.contains("/connectors/") {
                    peak.fetch_max(reads.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    reads.fetch_sub(1, Ordering::SeqCst);
                }
            }
        };
        let kubelet = Kubelet::with_client(between(cluster::drivers_client().await, see)).await;
        let mut all = Vec::new();
        for namespace in ["read-one", "read-two", "read-three"] {
            let demo = Demo::new(namespace).await;
            for name in &names {
                demo.connector(name, "k8s").await;
                demo.ready(name, "True", "", "").await;
            }
            let several = volumes(&kubelet, namespace, 4).into_iter();
            all.extend(several.map(|one| one.without("connector.name").with("connectors", &names.join(","))));
        }
        for answer in join_all(all.iter().map(async |volume| kubelet.publish(volume).await)).await {
            answer.unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!((2..=9).contains(&most), "{most} at once");
        join_all(all.iter().map(async |volume| kubelet.unpublish(volume).await.unwrap())).await;
    });
}

#[test]
fn connections_that_say_nothing_do_not_end_the_driver() {
    isolated(async {
        let (demo, kubelet) = (Demo::new("held").await, Kubelet::start().await);
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(UnixStream::connect(&kubelet.settings.csi_socket).await.unwrap());
        }
        healthcheck(&kubelet.settings.csi_socket).await.unwrap();
        drop(held);
        let volume = kubelet.volume(demo.namespace, "job", "a.token");
        kubelet.publish(&volume).await.unwrap();
        kubelet.unpublish(&volume).await.unwrap();
    });
}
