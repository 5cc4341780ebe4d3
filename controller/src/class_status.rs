//! A ConnectorClass's own walk: its templates and expressions are sound, its API and proxy exist. Conditions
//! APIReady, ProxyReady, Ready.

use std::sync::Arc;

use connectors_api::class::{ClassApiStatus, ConnectorClassStatus, Rego, ServiceReference};
use connectors_api::conditions::{self, reason};
use connectors_api::connector::{Addressable, ProxyStatus};
use connectors_api::item::{Item, Unreadable};
use connectors_api::probe::Outcome;
use connectors_api::{ConnectorClass, names};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Resource};

use crate::context::Context;
use crate::error::{Error, in_time};
use crate::schedule::Left;
use crate::status::{INFO, condition, is_true, no, patch, yes};

pub async fn reconcile(item: Arc<Item<ConnectorClass>>, context: Arc<Context>) -> Result<Left, Error> {
    if item.meta().deletion_timestamp.is_some() {
        return Ok(Left::Settled);
    }
    let class = item.read().cloned().unwrap_or_else(|unreadable| Arc::new(without_spec(unreadable)));
    let api = match &class.spec.api {
        Some(api) => {
            address(&context, "https", api.ref_.as_ref(), api.uri.as_deref(), reason::API_SERVICE_NOT_FOUND)
                .await?
        }
        None => Part::absent(),
    };
    let proxy = match &class.spec.proxy {
        Some(proxy) => {
            address(
                &context,
                "http",
                proxy.ref_.as_ref(),
                proxy.uri.as_deref(),
                reason::PROXY_SERVICE_NOT_FOUND,
            )
            .await?
        }
        None => Part::absent(),
    };
    let sound = context
        .checked_classes
        .sound(&item)
        .map_or_else(|problem| no(reason::CLASS_INVALID, problem), |_| yes("", ""));
    let status = next(&class, &sound, api, proxy);
    if class.status.as_ref() != Some(&status) {
        let classes: Api<Item<ConnectorClass>> = Api::all(context.client.clone());
        patch::write(&context, &classes, "class", &*class, &status).await?;
    }
    Ok(Left::Settled)
}

/// What can be told of a class that cannot be read: enough for its status.
fn without_spec(unreadable: &Unreadable) -> ConnectorClass {
    let status = serde_json::from_value(unreadable.status.clone()).ok();
    ConnectorClass { metadata: unreadable.metadata.clone(), status, ..ConnectorClass::default() }
}

/// Whether Connectors of this class get a proxy Service.
pub fn has_proxy(class: &ConnectorClass) -> bool {
    class.spec.proxy.as_ref().is_some_and(|proxy| is_given(proxy.ref_.as_ref(), proxy.uri.as_deref()))
}

/// `spec.api` or `spec.proxy`, looked up.
struct Part {
    url: Option<String>,
    /// `None`: the class has no such part.
    outcome: Option<Outcome>,
}

impl Part {
    fn absent() -> Part {
        Part { url: None, outcome: None }
    }
}

/// An empty part counts as none.
fn is_given(reference: Option<&ServiceReference>, uri: Option<&str>) -> bool {
    reference.is_some_and(|reference| !reference.name.is_empty()) || uri.is_some_and(|uri| !uri.is_empty())
}

/// Reference alone, reference and relative URI, or absolute URI alone. The Service is looked up, never
/// called.
async fn address(
    context: &Context,
    scheme: &str,
    reference: Option<&ServiceReference>,
    uri: Option<&str>,
    not_found: &str,
) -> Result<Part, Error> {
    if !is_given(reference, uri) {
        return Ok(Part::absent());
    }
    let Some(reference) = reference.filter(|reference| !reference.name.is_empty()) else {
        return Ok(without_service(uri.unwrap_or_default()));
    };
    let namespace = reference
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(&context.settings.namespace);
    let services: Api<Service> = Api::namespaced(context.client.clone(), namespace);
    let possible = names::is_dns_label(namespace) && names::is_dns_label(&reference.name);
    let found = match possible {
        true => in_time(services.get_opt(&reference.name))
            .await
            .attempt(|| format!("read Service {:?}", reference.name))?,
        false => None,
    };
    if found.is_none() {
        let message = format!("Service {} not found in namespace {namespace}", reference.name);
        return Ok(Part { url: None, outcome: Some(no(not_found, message)) });
    }
    let path = uri
        .map(|uri| format!("/{}", uri.trim_start_matches('/')))
        .filter(|path| path != "/")
        .unwrap_or_default();
    Ok(Part {
        url: Some(format!("{scheme}://{}.{namespace}.svc{path}", reference.name)),
        outcome: Some(yes("", "")),
    })
}

fn without_service(uri: &str) -> Part {
    if uri.starts_with("http://") || uri.starts_with("https://") {
        return Part { url: Some(uri.into()), outcome: Some(yes("", "")) };
    }
    let message = format!("{uri:?} is a relative uri: name the Service by ref, or give an absolute uri");
    Part { url: None, outcome: Some(no(reason::CLASS_INVALID, message)) }
}

/// Whoever writes rego means something by it: that nothing comes of it must not be found out by looking.
fn all_fields_used(class: &ConnectorClass) -> Outcome {
    let given = |rego: Option<&Rego>| rego.is_some_and(|rego| !rego.rego.is_empty());
    let extractor = class.spec.proxy.as_ref().and_then(|proxy| proxy.auth_extractor.as_ref());
    let permissions = class.spec.api.as_ref().and_then(|api| api.permissions.as_ref());
    let unused = [
        ("spec.proxy.authExtractor.rego", given(extractor)),
        ("spec.api.permissions.rego", given(permissions)),
    ];
    let unused: Vec<&str> = unused.into_iter().filter_map(|(field, given)| given.then_some(field)).collect();
    match unused.is_empty() {
        true => yes("", ""),
        false => no(
            reason::FIELDS_NOT_USED,
            format!("stored and not acted on by this version: {}", unused.join(", ")),
        ),
    }
}

fn next(class: &ConnectorClass, sound: &Outcome, api: Part, proxy: Part) -> ConnectorClassStatus {
    let last = class.status.clone().unwrap_or_default();
    let addressable = |url| Addressable { url: Some(url), ..Addressable::default() };
    let api_outcome = api.outcome.unwrap_or_else(|| yes(reason::NON_API, ""));
    let proxy_outcome = proxy.outcome.unwrap_or_else(|| yes(reason::NON_PROXY, ""));
    let ready = [sound, &api_outcome, &proxy_outcome]
        .into_iter()
        .find(|outcome| !is_true(outcome))
        .cloned()
        .unwrap_or_else(|| yes("", ""));
    let used = all_fields_used(class);
    let conditions = [
        (conditions::API_READY, &api_outcome, None),
        (conditions::PROXY_READY, &proxy_outcome, None),
        (conditions::ALL_FIELDS_USED, &used, Some(INFO)),
        (conditions::READY, &ready, None),
    ];
    ConnectorClassStatus {
        observed_generation: class.metadata.generation,
        conditions: conditions
            .map(|(type_, outcome, severity)| condition(type_, outcome, severity, &last.conditions))
            .into(),
        annotations: last.annotations,
        api: api.url.map(|url| ClassApiStatus { address: Some(addressable(url)) }),
        proxy: proxy.url.map(|url| ProxyStatus { http_address: Some(addressable(url)) }),
    }
}
