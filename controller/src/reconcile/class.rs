//! First step: the Connector's class exists and is sound. Sets ConnectorClassReady.

use std::sync::Arc;

use connectors_api::conditions::reason;
use connectors_api::{Connector, ConnectorClass, rules};
use kube::runtime::reflector::{ObjectRef, Store};

use crate::status::{Findings, no, yes};

/// The class, if it may be used.
pub fn find(classes: &Store<ConnectorClass>, connector: &Connector, findings: &mut Findings) -> Option<Arc<ConnectorClass>> {
    let name = &connector.spec.connector_class_name;
    let Some(class) = classes.get(&ObjectRef::new(name)) else {
        let message = format!("connectorclass.connectors.alauda.io {name:?} not found");
        findings.class = no(reason::CONNECTOR_CLASS_NOT_FOUND, message);
        return None;
    };
    match rules::check_class(&class) {
        Ok(()) => {
            findings.class = yes("", "");
            Some(class)
        }
        Err(violation) => {
            let message = format!("ConnectorClass {name:?} cannot be used: {}", violation.message);
            findings.class = no(reason::CLASS_INVALID, message);
            None
        }
    }
}
