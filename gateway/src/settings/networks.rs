//! How networks are written in settings. Errors quote the value, since the type's own does not.

use std::borrow::Cow;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is no network: write it like 10.0.0.0/8 or fd00::/8"))
        })
    };
    texts.iter().map(parse).collect()
}

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
