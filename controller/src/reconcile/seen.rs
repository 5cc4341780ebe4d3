//! What a walk is about, as its caches had it when it began. A probe may take half a minute: it is given up for
//! an edit or a deletion, which would otherwise wait for its end, and a rotation goes by it.

use std::time::Duration;

use connectors_api::Connector;
use connectors_api::item::Item;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::secret_names;
use crate::context::Stores;

/// A rotation is to reach the gateway within a second.
const OFTEN: Duration = Duration::from_millis(200);

pub struct Seen {
    connector: ObjectRef<Item<Connector>>,
    secrets: Vec<ObjectRef<PartialObjectMeta<Secret>>>,
    state: State,
}

/// Uid and generation of the Connector, versions of its Secrets.
type State = (Option<(Option<String>, Option<i64>)>, Vec<Option<String>>);

pub enum Changed {
    /// Edited or deleted.
    Connector,
    Secrets,
}

impl Seen {
    pub fn of(stores: &Stores, connector: &Connector) -> Seen {
        let namespace = connector.namespace().unwrap_or_default();
        let secrets = secret_names(connector).into_iter();
        let mut seen = Seen {
            connector: ObjectRef::new(&connector.name_any()).within(&namespace),
            secrets: secrets.map(|name| ObjectRef::new(name).within(&namespace)).collect(),
            state: State::default(),
        };
        seen.state = seen.state(stores);
        seen
    }

    /// The Connector was not deleted.
    pub fn is_there(&self, stores: &Stores) -> bool {
        self.state(stores).0.is_some()
    }

    /// Ends when something is not as it was, or as it was told last. The caches tell nobody, so they are looked
    /// at: not at once, since whoever changes a Secret all the time must not keep the walk going without a pause.
    pub async fn changed(&mut self, stores: &Stores) -> Changed {
        loop {
            tokio::time::sleep(OFTEN).await;
            let now = self.state(stores);
            if now.0 != self.state.0 {
                return Changed::Connector;
            }
            if now != self.state {
                self.state = now;
                return Changed::Secrets;
            }
        }
    }

    fn state(&self, stores: &Stores) -> State {
        let connector = stores.connectors.get(&self.connector);
        let connector = connector.filter(|item| item.meta().deletion_timestamp.is_none());
        let version = |name| stores.secrets.get(name).and_then(|secret| secret.resource_version());
        (
            connector.map(|item| (item.uid(), item.meta().generation)),
            self.secrets.iter().map(version).collect(),
        )
    }
}
