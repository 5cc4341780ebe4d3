//! What all stages of the data plane share: the parts that decide (who may go where, with what) and those that move bytes.

use std::sync::Arc;

use crate::connections::Connections;
use crate::parts::Parts;
use crate::tls::leaf::Leaves;
use crate::upstream::Upstream;
use crate::upstream::policy::Surroundings;

pub struct Gateway {
    pub parts: Parts,
    pub leaves: Leaves,
    pub upstream: Upstream,
    pub connections: Connections,
}

impl Gateway {
    pub fn new(parts: Parts, surroundings: Surroundings) -> anyhow::Result<Arc<Gateway>> {
        let leaves = Leaves::new(parts.issuer.clone(), parts.table.clone(), parts.metrics.clone())?;
        let upstream = Upstream::new(&parts, surroundings)?;
        Ok(Arc::new(Gateway { parts, leaves, upstream, connections: Connections::default() }))
    }
}
