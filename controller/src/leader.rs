//! One replica works at a time: it holds the Lease `connectors-controller`. First stage after start; the next
//! is `watch`. Same rules as client-go's leader election: another's Lease is judged by how long *we* saw it
//! unchanged (`observed`), our own by the time since *we* sent the last renewal, both on the monotonic clock.
//! A step of the wall clock, here or there, makes nobody leader.

mod observed;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::names;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::task::JoinSet;

use crate::error::{Error, within};
use crate::metrics::Metrics;
use crate::settings::Settings;
use observed::Observed;

pub struct Lease {
    api: Api<LeaseObject>,
    namespace: String,
    /// Unlike any earlier process's, also of the same Pod: a restarted container must wait like everybody
    /// else.
    identity: String,
    duration: Duration,
    deadline: Duration,
    retry: Duration,
    metrics: Arc<Metrics>,
}

/// Proof that the Lease was ours when `renewed` was sent.
struct Held {
    object: LeaseObject,
    renewed: Instant,
}

/// Waits for the Lease, then runs `work` until `shutdown` or until the Lease is lost. All tasks of the work
/// have ended when this returns.
pub async fn lead<W>(
    lease: Lease,
    shutdown: impl Future<Output = ()> + Send,
    work: impl FnOnce() -> W,
) -> Result<(), Error>
where
    W: Future<Output = Result<(), Error>> + Send + 'static,
{
    tokio::pin!(shutdown);
    let mut held = tokio::select! {
        held = lease.acquire() => held,
        () = &mut shutdown => return Ok(()),
    };
    tracing::info!(identity = lease.identity, "leading");
    lease.metrics.leader.set(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(work());
    let ended = tokio::select! {
        lost = lease.keep(&mut held) => Err(lost),
        done = tasks.join_next() => Err(how_it_ended(done)),
        () = &mut shutdown => Ok(()),
    };
    // First everything stops, then the Lease goes: never two at once.
    tasks.shutdown().await;
    lease.metrics.leader.set(0);
    match &ended {
        Err(Error::LeaseLost { .. }) => {}
        Ok(()) | Err(_) => lease.release(held).await,
    }
    ended
}

fn how_it_ended(done: Option<Result<Result<(), Error>, tokio::task::JoinError>>) -> Error {
    match done {
        Some(Ok(Err(error))) => error,
        Some(Ok(Ok(())) | Err(_)) | None => Error::Ended("the work of the leader"),
    }
}

impl Lease {
    pub fn new(client: &Client, settings: &Settings, metrics: Arc<Metrics>) -> Lease {
        Lease {
            api: Api::namespaced(client.clone(), &settings.namespace),
            namespace: settings.namespace.clone(),
            identity: format!("{}_{:08x}", settings.identity, rand::random::<u32>()),
            duration: settings.lease_duration,
            deadline: settings.lease_deadline,
            retry: settings.lease_retry,
            metrics,
        }
    }

    /// Tries until the Lease is ours. An unreachable API server is waited for.
    async fn acquire(&self) -> Held {
        let mut observed = Observed::default();
        loop {
            match self.try_acquire(&mut observed).await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                Err(error) if error.is_conflict() => tracing::debug!("another replica was quicker"),
                Err(error) => tracing::warn!("{error}"),
            }
            tokio::time::sleep(jittered(self.retry)).await;
        }
    }

    async fn try_acquire(&self, observed: &mut Observed) -> Result<Option<Held>, Error> {
        let found = self.within(self.duration, "read", self.api.get_opt(names::CONTROLLER)).await?;
        self.metrics.reached_api_server();
        let now = Instant::now();
        if let Some(object) = &found {
            observed.see(object.spec.as_ref(), now);
        }
        // A Lease that was held and then deleted is no invitation: its holder may still work.
        if !observed.is_free(now) {
            return Ok(None);
        }
        let transitions = found.as_ref().map_or(0, |object| transitions(object) + 1);
        self.write(found, transitions).await.map(Some)
    }

    /// Renews until that fails for too long or somebody else holds the Lease.
    async fn keep(&self, held: &mut Held) -> Error {
        loop {
            tokio::time::sleep(self.retry.min(self.left(held))).await;
            // A renewal that hangs must not keep us past the deadline, and leaves time for another: there may be more than
            // one API server.
            match tokio::time::timeout(self.left(held).min(self.deadline / 2), self.renew(held)).await {
                Ok(Ok(renewed)) => *held = renewed,
                Ok(Err(error @ Error::LeaseLost { .. })) => return error,
                Ok(Err(error)) => tracing::warn!("{error}"),
                Err(_) => tracing::warn!("the Lease was not renewed in time: the API server does not answer"),
            }
            if self.left(held).is_zero() {
                return self.lost(format!("not renewed for {} s", self.deadline.as_secs_f32()));
            }
        }
    }

    fn left(&self, held: &Held) -> Duration {
        self.deadline.saturating_sub(held.renewed.elapsed())
    }

    async fn renew(&self, held: &Held) -> Result<Held, Error> {
        let transitions = transitions(&held.object);
        match self.write(Some(held.object.clone()), transitions).await {
            Err(error) if error.is_conflict() => {}
            Err(error) if error.is_not_found() => return Err(self.lost("it was deleted".into())),
            other => return other,
        }
        // Someone wrote it: a label (then it is still ours), or the name of another holder.
        let object = self.within(self.deadline, "read", self.api.get(names::CONTROLLER)).await?;
        match object.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) {
            Some(holder) if holder == self.identity => self.write(Some(object), transitions).await,
            holder => Err(self.lost(format!("now held by {:?}", holder.unwrap_or_default()))),
        }
    }

    /// One write, guarded by the resourceVersion of what was read. The time counted is that before the
    /// request left.
    async fn write(&self, over: Option<LeaseObject>, transitions: i32) -> Result<Held, Error> {
        let renewed = Instant::now();
        let params = PostParams { field_manager: Some(names::CONTROLLER.into()), ..PostParams::default() };
        let object = match over {
            None => {
                let object =
                    LeaseObject { metadata: self.metadata(), spec: Some(self.spec(None, transitions)) };
                self.within(self.deadline, "create", self.api.create(&params, &object)).await?
            }
            Some(mut object) => {
                object.spec = Some(self.spec(object.spec.take(), transitions));
                self.within(self.deadline, "renew", self.api.replace(names::CONTROLLER, &params, &object))
                    .await?
            }
        };
        Ok(Held { object, renewed })
    }

    /// Gives the Lease away at once. Failing that, it runs out by itself.
    async fn release(&self, held: Held) {
        let mut object = held.object;
        let spec = object.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match self
            .within(
                self.retry,
                "release",
                self.api.replace(names::CONTROLLER, &PostParams::default(), &object),
            )
            .await
        {
            Ok(_) => tracing::info!("released the Lease"),
            Err(error) => tracing::warn!("{error}"),
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        verb: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        within(limit, call)
            .await
            .attempt(|| format!("{verb} the Lease {}/{}", self.namespace, names::CONTROLLER))
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(names::CONTROLLER.into()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }

    fn spec(&self, before: Option<LeaseSpec>, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        LeaseSpec {
            acquire_time: before.acquire_time.filter(|_| ours).or_else(|| Some(now.clone())),
            holder_identity: Some(self.identity.clone()),
            // Whole seconds in the API: rounded up, so that others wait long enough.
            lease_duration_seconds: Some(
                i32::try_from(self.duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX),
            ),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    fn lost(&self, cause: String) -> Error {
        Error::LeaseLost { lease: format!("{}/{}", self.namespace, names::CONTROLLER), cause }
    }
}

fn transitions(object: &LeaseObject) -> i32 {
    object.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

/// Up to 20 % more, so that candidates do not collide again and again.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 + rand::random::<f64>() * 0.2)
}
