//! Last step of a probe, beside its outcomes: whom the target takes the credential for, when the credential
//! ends, and what is allowed and dangerous. For people who read the connector's status.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use connectors_api::names::LEGACY_TLS_ANNOTATION;
use connectors_api::probe::Remarks;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::Subject;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const QUESTION: &[u8] = br#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
const JSON: &str = "application/json";
/// As long as a name of Kubernetes may be: what is longer is for no eye.
const MAX_NAME: usize = 253;
/// The last second of the year 9999: dates beyond have no usual spelling.
const LAST_DATE: i64 = 253_402_300_799;
const NAMES: u64 = 20_000;

/// Whom each version of a credential was taken for. Asked once: it does not change, and an audit log is no
/// place for our curiosity.
pub struct Names(Cache<(u64, String), Option<String>>);

impl Default for Names {
    fn default() -> Names {
        Names(Cache::new(NAMES))
    }
}

impl Names {
    /// None if the target does not say.
    pub(super) async fn of(&self, subject: &Subject<'_>) -> Option<String> {
        subject.route.credential.as_ref()?;
        let key = (subject.route.pool_key, subject.route.targets.first()?.origin());
        if let Some(known) = self.0.get(&key) {
            return known;
        }
        let answer = ask(subject).await?;
        self.0.insert(key, answer.clone());
        answer
    }
}

/// None if there was no answer; an answer may be without a name.
async fn ask(subject: &Subject<'_>) -> Option<Option<String>> {
    let target = subject.route.targets.first()?;
    let request = Request::post(format!("{}{REVIEWS}", target.prefix))
        .header(ACCEPT, JSON)
        .header(CONTENT_TYPE, JSON)
        .body(Bytes::from_static(QUESTION))
        .ok()?;
    let answer =
        subject.gateway.fetch(&subject.route, target, request, Some(&subject.credential)).await.ok()?;
    let created = matches!(answer.status, StatusCode::OK | StatusCode::CREATED);
    Some(if created { name(&answer.body) } else { None })
}

/// A target may write anything, and people read it.
fn name(review: &[u8]) -> Option<String> {
    let review: Value = serde_json::from_slice(review).ok()?;
    let name = review.pointer("/status/userInfo/username")?.as_str()?;
    let printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (printable && (1..=MAX_NAME).contains(&name.len())).then(|| name.to_owned())
}

pub(super) fn of(subject: Subject<'_>, identity: Option<String>) -> Remarks {
    let sent = subject.credential.authorization().and_then(|line| line.to_str().ok());
    let expires = sent.and_then(|line| line.strip_prefix("Bearer ")).and_then(end);
    let mut warnings = subject.warnings;
    if subject.route.trust.legacy_tls {
        warnings.push(format!("{LEGACY_TLS_ANNOTATION}: targets without secure renegotiation are talked to"));
    }
    Remarks { identity, expires, warnings }
}

/// When a JWT says that it ends. It is the team's own and is shown to nobody else: not verified.
fn end(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: Number,
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    let exp = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds as i64))?;
    (1..=LAST_DATE).contains(&exp).then_some(exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_if_it_is_short_and_can_be_printed() {
        let review = |name: &str| serde_json::json!({"status": {"userInfo": {"username": name}}}).to_string();
        let longest = "n".repeat(MAX_NAME);
        for (written, shown) in [
            ("system:serviceaccount:ci:deployer", true),
            ("jane doe", true),
            (longest.as_str(), true),
            (&format!("{longest}n"), false),
            ("", false),
            ("a\nb", false),
            ("j\u{e4}ne", false),
        ] {
            assert_eq!(name(review(written).as_bytes()).is_some(), shown, "{written:?}");
        }
        assert_eq!(name(b"<html>"), None);
    }

    #[test]
    fn the_end_of_a_jwt_is_read_and_of_nothing_else() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        for (token, ends) in [
            (token(r#"{"exp":1796000000,"sub":"x"}"#), Some(1_796_000_000)),
            (token(r#"{"exp":1796000000.5}"#), Some(1_796_000_000)),
            (token(r#"{"exp":"soon"}"#), None),
            (token(r#"{"exp":-1}"#), None),
            (token(r#"{"exp":1e300}"#), None),
            (token(r#"{"sub":"x"}"#), None),
            (format!("{}.more", token(r#"{"exp":1796000000}"#)), None),
            ("k8s-aws-v1.aHR0cHM6Ly9zdHM".to_owned(), None),
            ("kubeconfig-u-abc:secret".to_owned(), None),
        ] {
            assert_eq!(end(&token), ends, "{token}");
        }
    }
}
