//! First step: the Connector's class exists and is sound. Sets ConnectorClassReady.

use std::sync::Arc;

use connectors_api::conditions::reason;
use connectors_api::item::Item;
use connectors_api::{Connector, ConnectorClass, rules};
use kube::runtime::reflector::{ObjectRef, Store};

use crate::status::{Findings, no, yes};

/// The class, if it may be used.
pub fn find(
    classes: &Store<Item<ConnectorClass>>,
    connector: &Connector,
    findings: &mut Findings,
) -> Option<Arc<ConnectorClass>> {
    let name = &connector.spec.connector_class_name;
    let Some(item) = classes.get(&ObjectRef::new(name)) else {
        let message = format!("connectorclass.connectors.alauda.io {name:?} not found");
        findings.class = no(reason::CONNECTOR_CLASS_NOT_FOUND, message);
        return None;
    };
    match sound(&item) {
        Ok(class) => {
            findings.class = yes("", "");
            Some(class)
        }
        Err(problem) => {
            findings.class =
                no(reason::CLASS_INVALID, format!("ConnectorClass {name:?} cannot be used: {problem}"));
            None
        }
    }
}

/// The class, if it can be read and breaks no rule.
pub fn sound(item: &Item<ConnectorClass>) -> Result<Arc<ConnectorClass>, String> {
    let class = item.read().map_err(|unreadable| format!("it cannot be read: {}", unreadable.error))?;
    rules::check_class(class).map(|()| class.clone()).map_err(|violation| violation.message)
}
