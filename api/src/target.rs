//! Which URLs belong to a connector: scheme, host, port and whole segments of the path prefix.

/// A parsed address: `http` or `https`, normalized host, explicit port, path prefix without trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub tls: bool,
    /// Lowercase, no trailing dot, no brackets.
    pub host: String,
    pub port: u16,
    /// Empty or `/a/b`.
    pub prefix: String,
}
