//! First step: the Connector's class exists and is sound. Sets ConnectorClassReady.

use std::sync::Arc;

use connectors_api::conditions::reason;
use connectors_api::item::Item;
use connectors_api::{Connector, ConnectorClass, rules};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use moka::sync::Cache;

use crate::context::Context;
use crate::status::{Findings, no, yes};

/// The class, if it may be used.
pub fn find(
    context: &Context,
    connector: &Connector,
    findings: &mut Findings,
) -> Option<Arc<ConnectorClass>> {
    let name = &connector.spec.connector_class_name;
    let Some(item) = context.stores.classes.get(&ObjectRef::new(name)) else {
        let message = format!("connectorclass.connectors.alauda.io {name:?} not found");
        findings.class = no(reason::CONNECTOR_CLASS_NOT_FOUND, message);
        return None;
    };
    match context.checked_classes.sound(&item) {
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

const REMEMBERED: u64 = 1024;

/// By a class's uid what was found of one version of it: each walk asks, and to compile all its templates and
/// expressions takes long.
pub struct Checked(Cache<String, (String, Result<(), String>)>);

impl Default for Checked {
    fn default() -> Checked {
        Checked(Cache::new(REMEMBERED))
    }
}

impl Checked {
    /// The class, if it can be read and breaks no rule.
    pub fn sound(&self, item: &Item<ConnectorClass>) -> Result<Arc<ConnectorClass>, String> {
        let class = item.read().map_err(|unreadable| format!("it cannot be read: {}", unreadable.error))?;
        self.check(class).map(|()| class.clone())
    }

    fn check(&self, class: &ConnectorClass) -> Result<(), String> {
        let (uid, version) = (class.uid().unwrap_or_default(), class.resource_version().unwrap_or_default());
        if let Some((known, result)) = self.0.get(&uid)
            && known == version
        {
            return result;
        }
        let result = rules::check_class(class).map_err(|violation| violation.message);
        self.0.insert(uid, (version, result.clone()));
        result
    }
}
