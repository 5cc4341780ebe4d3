//! How networks are written in settings.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// What the schema says of one.
pub(super) struct Network;

impl JsonSchema for Network {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Exact for IPv4. What is wrong within an address of IPv6 only the gateway finds.
        let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
        let four = format!("{byte}([.]{byte}){{3}}/(3[0-2]|[12]?[0-9])");
        let six = "[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])";
        json_schema!({"type": "string", "format": "network", "pattern": format!("^({four}|{six})$")})
    }
}
