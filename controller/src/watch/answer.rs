//! Answers requests of one kind: whose turn it is gets a place, and is looked for only then. What was deleted
//! while it waited takes none, what was changed is seen as it is now.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::FuturesUnordered;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use tracing::Instrument;

use super::turns::Turns;
use crate::context::Context;
use crate::error::Error;
use crate::schedule::Left;

type Walks<K> = FuturesUnordered<Pin<Box<dyn Future<Output = (ObjectRef<K>, Duration)> + Send>>>;

/// Ends when nobody can ask any more. All walks are parts of this one future: they end with it.
pub async fn answer<K, F>(
    store: Store<K>,
    mut requests: UnboundedReceiver<ObjectRef<K>>,
    context: Arc<Context>,
    kind: &'static str,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Clone + Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Future<Output = Result<Left, Error>> + Send + 'static,
{
    let mut turns = Turns::new(usize::from(context.settings.concurrency), namespace::<K>);
    let mut walks = Walks::<K>::new();
    loop {
        while let Some(who) = turns.next() {
            let key = key(&who);
            let Some(object) = store.get(&who) else {
                context.schedule.forget(&format!("{kind}/{key}"));
                turns.done(who);
                continue;
            };
            let span = tracing::info_span!("reconcile", kind, key);
            let walk = reconcile(object, context.clone());
            let context = context.clone();
            let settled = async move { (who, settle(&context, kind, &key, walk.await)) };
            walks.push(Box::pin(settled.instrument(span)));
        }
        tokio::select! {
            asked = requests.next() => match asked {
                // Something changed: what failed before may go well now.
                Some(who) => {
                    context.schedule.forget(&format!("{kind}/{}", key(&who)));
                    turns.ask(who);
                }
                None => return,
            },
            Some((who, after)) = walks.next() => {
                turns.ask_at(who.clone(), Instant::now() + after);
                turns.done(who);
            }
            () = until(turns.next_due()) => turns.ask_due(Instant::now()),
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// What has no namespace is its own.
fn namespace<K: Resource<DynamicType = ()>>(who: &ObjectRef<K>) -> &str {
    who.namespace.as_deref().unwrap_or(&who.name)
}

fn key<K: Resource<DynamicType = ()>>(who: &ObjectRef<K>) -> String {
    match &who.namespace {
        Some(namespace) => format!("{namespace}/{}", who.name),
        None => who.name.clone(),
    }
}

/// When to look again if nothing changes.
fn settle(context: &Context, kind: &str, key: &str, left: Result<Left, Error>) -> Duration {
    context.metrics.reconciled(kind, left.as_ref().map(drop));
    let key = format!("{kind}/{key}");
    match left {
        Ok(left) => context.schedule.next(&key, left),
        // Somebody wrote or deleted it meanwhile: everyday life.
        Err(error) if error.is_not_found() || error.is_conflict() => {
            tracing::debug!(key, "{error}");
            context.schedule.after(&key, &error)
        }
        Err(error) => {
            tracing::warn!(key, "{error}");
            context.schedule.after(&key, &error)
        }
    }
}
