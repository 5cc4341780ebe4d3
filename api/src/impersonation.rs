//! Whom the users of a connector may speak as, by `Impersonate-*`: the annotation
//! `connectors.cpaas.io/allow-impersonation`. Without it nobody.

use thiserror::Error;

/// Users, groups and ServiceAccounts of one annotation.
const MAX_SUBJECTS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Impersonation {
    #[default]
    Nobody,
    /// As far as the credential may impersonate.
    Anybody,
    These(Vec<Subject>),
}

/// As the target's API server names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "must be \"true\", or a list of at most {MAX_SUBJECTS}: user:<name>, group:<name> or serviceaccount:<namespace>/<name>, with commas between"
)]
pub struct ImpersonationError;

impl Impersonation {
    /// Reads the annotation's value.
    pub fn parse(text: &str) -> Result<Impersonation, ImpersonationError> {
        match text.trim() {
            "" | "false" => Ok(Impersonation::Nobody),
            "true" => Ok(Impersonation::Anybody),
            list if list.split(',').count() > MAX_SUBJECTS => Err(ImpersonationError),
            list => list.split(',').map(subject).collect::<Result<_, _>>().map(Impersonation::These),
        }
    }
}

fn subject(text: &str) -> Result<Subject, ImpersonationError> {
    let (kind, name) = text.trim().split_once(':').ok_or(ImpersonationError)?;
    match (kind, name) {
        (_, "") => Err(ImpersonationError),
        ("user", name) => Ok(Subject::User(name.to_owned())),
        ("group", name) => Ok(Subject::Group(name.to_owned())),
        ("serviceaccount", name) => match name.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
            }
            _ => Err(ImpersonationError),
        },
        _ => Err(ImpersonationError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_allows_nobody_anybody_or_those_that_it_lists() {
        let user = |name: &str| Subject::User(name.to_owned());
        let group = |name: &str| Subject::Group(name.to_owned());
        for (text, parsed) in [
            ("", Some(Impersonation::Nobody)),
            ("false", Some(Impersonation::Nobody)),
            ("true", Some(Impersonation::Anybody)),
            ("user:jane", Some(Impersonation::These(vec![user("jane")]))),
            (
                "user:jane@example.com, group:system:masters,serviceaccount:ci/deployer",
                Some(Impersonation::These(vec![
                    user("jane@example.com"),
                    group("system:masters"),
                    user("system:serviceaccount:ci:deployer"),
                ])),
            ),
            ("yes", None),
            ("jane", None),
            ("user:", None),
            ("user:a,", None),
            ("role:admin", None),
            ("serviceaccount:deployer", None),
            ("serviceaccount:/deployer", None),
            (&["user:a"; 65].join(","), None),
        ] {
            assert_eq!(Impersonation::parse(text).ok(), parsed, "{text}");
        }
    }
}
