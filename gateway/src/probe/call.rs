//! One HTTP probe of a class: rendered, sent to a target of the connector and nowhere else, redirects
//! included; 2xx is success, unless the class's CEL judges it (`judge`).

use std::sync::Arc;

use bytes::Bytes;
use connectors_api::class::{HttpProbe, ProbeMethod, ProbeScheme};
use connectors_api::target::{Authority, PathMatch, Target, default_port};
use connectors_api::template::Template;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, StatusCode};

use super::data::Data;
use super::{Subject, judge};
use crate::error::Error;
use crate::probe::fetch::Fetched;

const REDIRECTS: usize = 5;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injection {
    With,
    Without,
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub success: bool,
    /// HTML: somebody reads this who has given the address of a console.
    page: bool,
}

pub(super) enum Failed {
    Dial(Error),
    /// The probe as the class has it cannot be made. Never quotes a value.
    Class(String),
}

impl Answer {
    pub fn words(&self, what: &str) -> String {
        let page = if self.page { ", a web page: is the address that of a console?" } else { "" };
        format!("{what}: status code {}{page}", self.status.as_u16())
    }
}

/// A request as rendered: where to, and what for.
struct Call {
    target: Target,
    path: String,
    method: Method,
    headers: HeaderMap,
}

pub(super) async fn call(
    subject: &Subject<'_>,
    probe: &HttpProbe,
    injection: Injection,
) -> Result<Answer, Failed> {
    let mut call = prepare(subject, probe)?;
    for _ in 0..=REDIRECTS {
        let fetched = send(subject, &call, injection).await?;
        let location = fetched.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|_| fetched.status.is_redirection() && !probe.disable_redirect) {
            Some(location) => follow(subject, &mut call, fetched.status, location)?,
            None => return judged(subject, probe, fetched).await,
        }
    }
    Err(Failed::Class(format!("{} redirects more than {REDIRECTS} times", call.target.host)))
}

/// The credential is for the connector's targets only, path prefix included; elsewhere on the same server the
/// probe is anonymous.
fn covered(subject: &Subject<'_>, target: &Target, path: &str) -> bool {
    let origin = target.origin();
    subject.route.targets.iter().any(|one| one.origin() == origin && one.covers(path) == PathMatch::Inside)
}

async fn send(subject: &Subject<'_>, call: &Call, injection: Injection) -> Result<Fetched, Failed> {
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .body(Bytes::new())
        .map_err(|_| unfit("path"))?;
    let mut credential = None;
    if covered(subject, &call.target, &call.path) {
        *request.headers_mut() = call.headers.clone();
        // A class that writes the header itself knows better.
        credential = match call.headers.get(AUTHORIZATION) {
            Some(written) => Some(Arc::new(subject.credential.written(written.clone()))),
            None => (injection == Injection::With).then(|| subject.credential.clone()),
        };
    }
    let fetched = subject.gateway.fetch(&subject.route, &call.target, request, credential.as_deref()).await;
    fetched.map_err(Failed::Dial)
}

fn prepare(subject: &Subject<'_>, probe: &HttpProbe) -> Result<Call, Failed> {
    let anonymous = Data::new(subject.connector, None);
    let data = match subject.route.credential {
        Some(_) => Data::new(subject.connector, Some(subject.credential.values())),
        None => Data::new(subject.connector, None),
    };
    // Paths end up in access logs of targets: no secret gets there.
    let path = rendered(&probe.path, &anonymous, "path")?;
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let mut headers = HeaderMap::new();
    for header in &probe.http_headers {
        let value = rendered(&header.value, &data, &header.name)?;
        if !value.is_empty() {
            let name = HeaderName::try_from(header.name.as_str()).map_err(|_| unfit("header name"))?;
            let mut value = HeaderValue::try_from(value.trim()).map_err(|_| unfit(&header.name))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    let method = match probe.method.unwrap_or_default() {
        ProbeMethod::Get => Method::GET,
        ProbeMethod::Post => Method::POST,
    };
    Ok(Call { target: destination(subject, probe)?, path, method, headers })
}

fn rendered(template: &str, data: &Data, part: &str) -> Result<String, Failed> {
    let text = Template::parse(template).and_then(|template| template.render(&data.0));
    text.map(|text| text.trim().to_owned())
        .map_err(|error| Failed::Class(format!("the class's probe has a broken {part}: {error}")))
}

fn unfit(part: &str) -> Failed {
    Failed::Class(format!("the class's probe renders a {part} that HTTP cannot carry"))
}

/// Scheme and host: the address's, unless the class says otherwise; another host without scheme means http.
fn destination(subject: &Subject<'_>, probe: &HttpProbe) -> Result<Target, Failed> {
    let Some(first) = subject.route.targets.first() else {
        return Err(Failed::Class("the connector has no address".to_owned()));
    };
    let host = probe.host.as_deref().filter(|host| !host.is_empty());
    let authority = host.map(Authority::parse).transpose().map_err(|_| unfit("host"))?;
    let other = authority.filter(|authority| !authority.is(&first.host, first.port, default_port(first.tls)));
    let tls = match probe.scheme {
        Some(scheme) => scheme == ProbeScheme::Https,
        None => first.tls && other.is_none(),
    };
    let port = default_port(tls);
    let wanted = match other {
        Some(other) => {
            Target { tls, port: other.port.unwrap_or(port), host: other.host, prefix: String::new() }
        }
        None => Target { tls, ..first.clone() },
    };
    known(subject, &wanted)
}

/// The connector's own target with this origin.
fn known(subject: &Subject<'_>, wanted: &Target) -> Result<Target, Failed> {
    let origin = wanted.origin();
    let own = subject.route.targets.iter().find(|target| target.origin() == origin);
    own.cloned().ok_or_else(|| {
        Failed::Class(format!("the probe leads to {origin}, which is no address of the connector"))
    })
}

/// Within the connector's targets only: a redirect must not carry a credential, or a probe, anywhere else.
fn follow(subject: &Subject<'_>, call: &mut Call, status: StatusCode, location: &str) -> Result<(), Failed> {
    let location = location.split('#').next().unwrap_or_default();
    if location.starts_with('/') && !location.starts_with("//") {
        call.path = location.to_owned();
    } else if let Some((origin, path)) = absolute(location) {
        let target = Target::parse(origin)
            .map_err(|_| Failed::Class(format!("{} redirects to a broken address", call.target.host)))?;
        call.path = path;
        call.target = known(subject, &target)?;
    } else {
        let folder =
            call.path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
        call.path = format!("{folder}/{location}");
    }
    // As browsers and Go do: only 307 and 308 repeat the method.
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        call.method = Method::GET;
    }
    Ok(())
}

/// The origin and the path of an absolute URL, the path as it stands there.
fn absolute(location: &str) -> Option<(&str, String)> {
    let (scheme, rest) = location.split_once("://")?;
    if scheme.contains(['/', '?']) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (origin, path) = location.split_at(scheme.len() + "://".len() + end);
    Some((origin, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

async fn judged(subject: &Subject<'_>, probe: &HttpProbe, fetched: Fetched) -> Result<Answer, Failed> {
    let status = fetched.status;
    let kind = fetched.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let page = kind.get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
    let cel = probe.response.as_ref().map_or("", |response| response.cel.trim());
    if cel.is_empty() {
        return Ok(Answer { status, success: status.is_success(), page });
    }
    match judge::judge(&subject.route.connector.namespace, cel, fetched).await {
        Ok(success) => Ok(Answer { status, success, page }),
        Err(why) => Err(Failed::Class(format!(
            "the class's CEL does not fit the answer (status code {}): {why}",
            status.as_u16()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_absolute_redirect_stays_as_it_stands() {
        for (location, expected) in [
            ("https://host/app/", Some(("https://host", "/app/"))),
            ("https://host:8443", Some(("https://host:8443", "/"))),
            ("https://host?a=b", Some(("https://host", "/?a=b"))),
            (
                "https://host/a%2Fb/../c?next=https://other/",
                Some(("https://host", "/a%2Fb/../c?next=https://other/")),
            ),
            ("login?next=https://host/", None),
            ("login/https://host/", None),
            ("login", None),
        ] {
            let expected = expected.map(|(origin, path)| (origin, path.to_owned()));
            assert_eq!(absolute(location), expected, "{location}");
        }
    }
}
