//! The classes of the product. kubectl applies no object of a kind that it does not know yet, so an installation
//! by kubectl brings classes as texts of ConfigMap `connectors-classes`, and they are applied here as soon as
//! the API server knows the kind. Beside the walks of Connectors, under the same Lease; it needs `watch`'s cache of
//! classes.
//!
//! A text is applied once. What operators change in the class afterwards stays until an upgrade brings another
//! text; without the ConfigMap nothing is done.

use std::sync::Arc;
use std::time::Duration;

use connectors_api::{ConnectorClass, names};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use openssl::sha::sha256;
use serde_json::Value;

use crate::context::Context;
use crate::error::{Error, in_time};

/// After a failure: the API server takes a moment to serve the schema of an upgrade.
const RETRY: Duration = Duration::from_secs(5);

/// For ever: at start, and periodically.
pub async fn bring(context: Arc<Context>) {
    if context.stores.classes.wait_until_ready().await.is_err() {
        return;
    }
    loop {
        let done = apply_all(&context).await;
        context.metrics.reconciled("classes", done.as_ref().map(drop));
        if let Err(error) = &done {
            tracing::error!("classes: {error}");
        }
        let period = context.settings.recheck;
        tokio::time::sleep(if done.is_ok() { period } else { period.min(RETRY) }).await;
    }
}

/// One that is broken keeps no other from being applied; the first error of several is told.
async fn apply_all(context: &Context) -> Result<(), Error> {
    let name = names::CLASSES_CONFIGMAP;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let found = in_time(api.get_opt(name)).await.attempt(|| format!("read ConfigMap {name:?}"))?;
    let texts = found.and_then(|configmap| configmap.data).unwrap_or_default();
    let mut done = Ok(());
    for (file, text) in &texts {
        let applied = match read(file, text) {
            Ok(class) if is_applied(context, &class) => Ok(()),
            Ok(class) => apply(context, &class).await,
            Err(cause) => Err(Error::ClassText { file: file.clone(), cause }),
        };
        done = done.and(applied);
    }
    done
}

/// The class of a text, with the annotation that says which text it is.
fn read(file: &str, text: &str) -> Result<DynamicObject, String> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| format!("is no YAML: {error}"))?;
    let mut class: DynamicObject =
        serde_json::from_value(value).map_err(|error| format!("is no object: {error}"))?;
    let expected = ApiResource::erase::<ConnectorClass>(&());
    let is_class =
        |types: &TypeMeta| types.kind == expected.kind && types.api_version == expected.api_version;
    if !class.types.as_ref().is_some_and(is_class) {
        return Err(format!("is no {} of {}", expected.kind, expected.api_version));
    }
    let named = class.metadata.name.as_deref().unwrap_or_default();
    if file.strip_suffix(".yaml") != Some(named) {
        return Err(format!("has the class {named:?}: the key must be its name and .yaml"));
    }
    let digest = sha256(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    class.annotations_mut().insert(names::CLASS_TEXT_ANNOTATION.into(), digest);
    Ok(class)
}

/// Whatever became of it since.
fn is_applied(context: &Context, class: &DynamicObject) -> bool {
    let text = names::CLASS_TEXT_ANNOTATION;
    let there = context.stores.classes.get(&ObjectRef::new(&class.name_any()));
    there.is_some_and(|there| there.annotations().get(text) == class.annotations().get(text))
}

/// An upgrade goes over what others have changed, and says so once.
async fn apply(context: &Context, class: &DynamicObject) -> Result<(), Error> {
    let name = class.name_any();
    let kind = ApiResource::erase::<ConnectorClass>(&());
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &kind);
    let ours = PatchParams::apply(names::CONTROLLER);
    let attempt = async |how: &PatchParams| {
        let applied = in_time(api.patch(&name, how, &Patch::Apply(class))).await;
        applied.attempt(|| format!("apply class {name:?} of ConfigMap {:?}", names::CLASSES_CONFIGMAP))
    };
    let mut applied = attempt(&ours).await;
    if let Err(conflict) = &applied
        && conflict.is_conflict()
    {
        tracing::warn!(name, "this version's class takes the place of what was changed in it: {conflict}");
        applied = attempt(&ours.force()).await;
    }
    applied?;
    tracing::info!(name, "class applied");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "{apiVersion: connectors.alauda.io/v1alpha1, kind: ConnectorClass, metadata: {name: git}, spec: {}}";

    #[test]
    fn another_text_is_another_digest_also_by_a_comment() {
        let digest =
            |text: &str| read("git.yaml", text).unwrap().annotations()[names::CLASS_TEXT_ANNOTATION].clone();
        assert_eq!(digest(TEXT), digest(TEXT));
        assert_ne!(digest(TEXT), digest(&format!("# next\n{TEXT}")));
        assert_eq!(digest(TEXT).len(), 64);
    }

    #[test]
    fn a_text_that_is_no_class_of_its_name_is_told_in_a_sentence() {
        for (file, text, words) in [
            ("git.yaml", "{", "is no YAML"),
            ("git.yaml", "just words", "is no object"),
            ("git.yaml", "{metadata: {name: git}}", "is no ConnectorClass of connectors.alauda.io/v1alpha1"),
            ("git.yaml", &TEXT.replace("ConnectorClass", "Connector"), "is no ConnectorClass"),
            ("git.yaml", &TEXT.replace("name: git", ""), r#"has the class """#),
            ("k8s.yaml", TEXT, r#"has the class "git": the key must be its name and .yaml"#),
            ("git", TEXT, "the key must be its name and .yaml"),
        ] {
            let error = read(file, text).unwrap_err();
            assert!(error.contains(words), "{file} {text}: {error}");
        }
    }
}
