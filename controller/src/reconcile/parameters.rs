//! Second step: address, parameters and auth fit the class, and the Secret is one of this namespace. The
//! rules are the API's.

use connectors_api::{Connector, ConnectorClass, conditions, rules};

use crate::status::{Findings, no};

/// Whether the walk may go on to Secret and probe. A violation stands in the condition that the rule names.
pub fn check(connector: &Connector, class: &ConnectorClass, findings: &mut Findings) -> bool {
    let Err(violation) = rules::check_connector(connector, class) else { return true };
    let outcome = no(violation.reason, violation.message);
    match violation.condition {
        conditions::SECRET_READY => findings.secret = outcome,
        _ => findings.class = outcome,
    }
    false
}
