//! What two parts of Connectors must agree on. No I/O but lines of a log: types, names, grammars and pure functions only.
//!
//! `connector`, `class`: the custom resources, `crd` their definitions.
//! `conditions`: types and reasons of a status. `names`: fixed names of objects, ports, audiences, annotations.
//! `access`: what RBAC is asked. `proxy_auth`, `target`, `attributes`: grammars that a writer and a reader share.
//! `probe`: what the controller asks of the gateway. `template`, `expression`: the engines (features `template`, `cel`).
//! `places`: for what may wait long (feature `places`). `logs`: lines for which nobody waits, and what is in none
//! (feature `logs`). `impersonation`: whom a connector's users may speak as.
//! `aliases`: whether YAML of a stranger is more than it looks. `item`: an object of a list, read by itself; `api_server`: how it is asked; `watch_health`: whether lists and watches come.
//! `cluster_ranges`: which addresses are the home cluster's. `ca_certificates`: what a Secret gives as CAs. `rules`: whether class, Connector and Secret fit together
//! (that of a class with both features). `nearest`: which known name an unknown one is meant for.

pub mod access;
pub mod aliases;
pub mod api_server;
pub mod attributes;
pub mod ca_certificates;
pub mod class;
pub mod cluster_ranges;
pub mod conditions;
pub mod connector;
pub mod crd;
#[cfg(feature = "cel")]
pub mod expression;
pub mod impersonation;
pub mod item;
#[cfg(feature = "logs")]
pub mod logs;
pub mod names;
pub mod nearest;
#[cfg(feature = "places")]
pub mod places;
pub mod probe;
pub mod proxy_auth;
pub mod rules;
pub mod target;
#[cfg(feature = "template")]
pub mod template;
pub mod watch_health;

pub use class::ConnectorClass;
pub use connector::Connector;
