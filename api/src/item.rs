//! One object of a list or a watch, decoded by itself. What a user wrote into one object (nesting beyond what
//! the JSON reader takes, a value of another kind) must not cost a list of all: so the list is read as raw
//! JSON, which needs no recursion, and each item decides alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// An object, or what can be told of one that cannot be read. Cheap to clone.
#[derive(Debug)]
pub struct Item<K>(Result<Arc<K>, Arc<Unreadable>>);

/// Enough to name the object and to write into its status why it is of no use.
#[derive(Clone, Debug, Default)]
pub struct Unreadable {
    /// Name, namespace, uid, resourceVersion, generation and deletionTimestamp.
    pub metadata: ObjectMeta,
    /// The fields of its status that can be read, as an object.
    pub status: Value,
    /// In words for the object's owner, such as `it is nested deeper than 128 levels`.
    pub error: String,
}

impl<K> Item<K> {
    pub fn read(&self) -> Result<&Arc<K>, &Unreadable> {
        self.0.as_ref().map_err(|unreadable| &**unreadable)
    }

    pub fn into_read(self) -> Result<Arc<K>, Arc<Unreadable>> {
        self.0
    }
}

/// A Connector of more JSON than this is of no use: caches of all of them must fit.
pub const MAX_CONNECTOR: usize = 128 << 10;

/// Any object that is larger is not even read: in memory it would be many times its JSON.
const MOST: usize = 512 << 10;
/// Labels, annotations, owners and finalizers of one object: the shortest takes ten times its JSON in memory.
const MOST_NAMES: usize = 512;

/// Holds a copy of the whole object as it was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl<K: Serialize + Resource<DynamicType = ()> + Clone> Item<K> {
    /// Without what nobody here reads, and, where it is still larger than `most` bytes of JSON, as one that
    /// cannot be read.
    pub fn bounded(mut self, most: usize) -> Item<K> {
        self.meta_mut().annotations.iter_mut().for_each(|all| drop(all.remove(LAST_APPLIED)));
        let too = match &self.0 {
            Ok(object) if size(&**object) > most => Some(format!("it is larger than {} KiB", most >> 10)),
            Ok(object) if names(object.meta()) > MOST_NAMES => {
                Some(format!("it has more than {MOST_NAMES} labels, annotations, owners and finalizers"))
            }
            _ => None,
        };
        match (&self.0, too) {
            (Ok(object), Some(error)) => {
                let status = serde_json::to_value(&**object)
                    .ok()
                    .and_then(|mut all| Some(all.get_mut("status")?.take()));
                let meta = object.meta();
                let metadata = ObjectMeta {
                    name: meta.name.clone(),
                    namespace: meta.namespace.clone(),
                    uid: meta.uid.clone(),
                    resource_version: meta.resource_version.clone(),
                    generation: meta.generation,
                    deletion_timestamp: meta.deletion_timestamp.clone(),
                    ..ObjectMeta::default()
                };
                Item(Err(Arc::new(Unreadable { metadata, status: status.unwrap_or_default(), error })))
            }
            _ => self,
        }
    }
}

fn names(meta: &ObjectMeta) -> usize {
    let of = |names: &Option<BTreeMap<String, String>>| names.as_ref().map_or(0, BTreeMap::len);
    of(&meta.labels)
        + of(&meta.annotations)
        + meta.owner_references.as_ref().map_or(0, Vec::len)
        + meta.finalizers.as_ref().map_or(0, Vec::len)
}

/// Bytes of an object's JSON.
pub fn size(object: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written is as good as endless.
    serde_json::to_writer(&mut count, object).map_or(usize::MAX, |()| count.0)
}

impl<K> Clone for Item<K> {
    fn clone(&self) -> Self {
        Item(self.0.clone())
    }
}

impl<K> From<K> for Item<K> {
    fn from(object: K) -> Self {
        Item(Ok(Arc::new(object)))
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Item<K> {
    /// Fails only for what is no object with metadata, which no API server sends.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(input)?;
        let text = without_managed_fields(raw.get());
        if text.len() > MOST {
            let error = format!("it is larger than {} KiB", MOST >> 10);
            let item = unread(&text, error).map_err(D::Error::custom)?;
            return Ok(Item(Err(Arc::new(item))));
        }
        match serde_json::from_str::<K>(&text) {
            Ok(object) => Ok(Item::from(object)),
            Err(error) => {
                unread(raw.get(), words(&error)).map(|it| Item(Err(Arc::new(it)))).map_err(D::Error::custom)
            }
        }
    }
}

/// managedFields mirror the object, are as deep as it, and nobody here reads them.
fn without_managed_fields(object: &str) -> Cow<'_, str> {
    let stripped = || {
        let mut fields: Fields<'_> = serde_json::from_str(object).ok()?;
        let mut metadata: Fields<'_> = serde_json::from_str(fields.get("metadata")?.get()).ok()?;
        metadata.remove("managedFields")?;
        let metadata = serde_json::value::to_raw_value(&metadata).ok()?;
        fields.insert("metadata".into(), &metadata);
        serde_json::to_string(&fields).ok()
    };
    stripped().map_or(Cow::Borrowed(object), Cow::Owned)
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn fields(object: &str) -> Result<Fields<'_>, serde_json::Error> {
    serde_json::from_str(object)
}

fn part<'a>(fields: &Fields<'a>, name: &str) -> &'a str {
    fields.get(name).map_or("{}", |part| part.get())
}

/// Of the status what can be read: the controller writes it, and must know what it has said.
fn unread(object: &str, error: String) -> Result<Unreadable, serde_json::Error> {
    let fields = fields(object)?;
    let status = part(&fields, "status");
    let status = if status.len() > MAX_CONNECTOR { Value::default() } else { readable_fields(status) };
    Ok(Unreadable { metadata: metadata(part(&fields, "metadata"))?, status, error })
}

fn metadata(text: &str) -> Result<ObjectMeta, serde_json::Error> {
    const KEPT: [&str; 6] =
        ["name", "namespace", "uid", "resourceVersion", "generation", "deletionTimestamp"];
    let fields: Fields<'_> = serde_json::from_str(text)?;
    let kept: BTreeMap<_, _> = fields.iter().filter(|(name, _)| KEPT.contains(&name.as_ref())).collect();
    serde_json::from_str(&serde_json::to_string(&kept)?)
}

fn readable_fields(text: &str) -> Value {
    let fields: Fields<'_> = serde_json::from_str(text).unwrap_or_default();
    let read = |(name, value): (Cow<'_, str>, &RawValue)| {
        Some((name.into_owned(), serde_json::from_str(value.get()).ok()?))
    };
    Value::Object(fields.into_iter().filter_map(read).collect::<Map<_, _>>())
}

/// The depth is the JSON reader's own limit.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("recursion limit") { "it is nested deeper than 128 levels".to_owned() } else { text }
}

/// So that lists, watches and caches of Kubernetes' client take items.
impl<K: Resource<DynamicType = ()> + Clone> Resource for Item<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    /// Without this a watch of metadata alone would be sent the values of all Secrets.
    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => Arc::make_mut(object).meta_mut(),
            Err(unreadable) => &mut Arc::make_mut(unreadable).metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connector;
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::{ObjectList, PartialObjectMeta, WatchEvent};

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    /// A Connector as the API server writes it, with one more field in each place.
    fn connector(name: &str, metadata: &str, spec: &str, status: &str) -> String {
        format!(
            r#"{{"apiVersion":"connectors.alauda.io/v1alpha1","kind":"Connector",
            "metadata":{{"name":"{name}","namespace":"demo","uid":"u","resourceVersion":"7","generation":3{metadata}}},
            "spec":{{"connectorClassName":"k8s","address":"https://a"{spec}}},
            "status":{{"observedGeneration":3{status}}}}}"#
        )
    }

    fn list(items: &[String]) -> Vec<Item<Connector>> {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"9"}},"items":[{}]}}"#,
            items.join(",")
        );
        serde_json::from_str::<ObjectList<Item<Connector>>>(&text).unwrap().items
    }

    #[test]
    fn one_deep_object_costs_the_list_nothing_but_itself() {
        for depth in [200, 5_000] {
            let deep = nested(depth);
            let params = format!(r#","params":[{{"name":"a","value":{deep}}}]"#);
            let items = list(&[connector("deep", "", &params, ""), connector("sound", "", "", "")]);
            let unreadable = items[0].read().unwrap_err();
            assert_eq!(unreadable.error, "it is nested deeper than 128 levels");
            let meta = &unreadable.metadata;
            assert_eq!(
                (meta.name.as_deref(), meta.namespace.as_deref(), meta.generation),
                (Some("deep"), Some("demo"), Some(3))
            );
            assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
            assert_eq!(unreadable.status["observedGeneration"], 3);
            assert_eq!(items[1].read().unwrap().spec.address, "https://a");
        }
    }

    #[test]
    fn a_connector_that_is_too_large_is_one_that_cannot_be_read_and_keeps_its_name_and_status() {
        let large = format!(r#","params":[{{"name":"a","value":"{}"}}]"#, "x".repeat(MAX_CONNECTOR));
        let applied =
            format!(r#","annotations":{{"{LAST_APPLIED}":"{}","a":"b"}}"#, "x".repeat(MAX_CONNECTOR));
        let items = list(&[connector("large", "", &large, ""), connector("applied", &applied, "", "")]);
        let mut items = items.into_iter().map(|item| item.bounded(MAX_CONNECTOR));
        let large = items.next().unwrap().into_read().unwrap_err();
        assert_eq!(large.error, "it is larger than 128 KiB");
        assert_eq!((large.metadata.name.as_deref(), large.metadata.generation), (Some("large"), Some(3)));
        assert_eq!(large.status["observedGeneration"], 3);
        assert!(size(&large.metadata) < 200);
        let applied = items.next().unwrap().into_read().unwrap();
        assert_eq!(applied.metadata.annotations.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn lists_and_objects_as_values_take_no_memory() {
        let many = format!(r#","params":[{{"name":"a","value":[{}{{}}]}}]"#, "{\"a\":0},".repeat(10_000));
        let items = list(&[connector("many", "", &many, "")]);
        assert_eq!(items[0].read().unwrap().spec.params[0].value, serde_json::json!([]));
    }

    #[test]
    fn what_is_larger_than_any_object_of_use_is_not_read_and_keeps_its_name() {
        let large = format!(r#","params":[{{"name":"a","value":"{}"}}]"#, "x".repeat(MOST));
        let items = list(&[connector("large", "", &large, "")]);
        let large = items[0].read().unwrap_err();
        assert_eq!(
            (large.error.as_str(), large.metadata.name.as_deref()),
            ("it is larger than 512 KiB", Some("large"))
        );
    }

    #[test]
    fn an_object_with_thousands_of_labels_is_one_that_cannot_be_read() {
        let labels: Vec<String> = (0..1000).map(|number| format!(r#""l{number}":"""#)).collect();
        let items = list(&[connector("many", &format!(r#","labels":{{{}}}"#, labels.join(",")), "", "")]);
        let many = items[0].clone().bounded(MAX_CONNECTOR).into_read().unwrap_err();
        assert!(many.error.starts_with("it has more than 512 labels"), "{}", many.error);
    }

    #[test]
    fn depth_where_nothing_is_read_does_not_matter() {
        let deep = nested(5_000);
        for (metadata, spec, status) in [
            (format!(r#","managedFields":[{{"fieldsV1":{deep}}}]"#), String::new(), String::new()),
            (String::new(), format!(r#","unknown":{deep}"#), String::new()),
            (String::new(), String::new(), format!(r#","unknown":{deep}"#)),
            (format!(r#","annotations":{{"a":"{deep}"}}"#), String::new(), String::new()),
        ] {
            let items = list(&[connector("a", &metadata, &spec, &status)]);
            assert!(items[0].read().is_ok(), "{:?}", items[0].read().unwrap_err().error);
        }
    }

    #[test]
    fn of_a_status_that_is_too_deep_the_other_fields_are_known() {
        let status = format!(r#","conditions":{},"annotations":{{"a":"b"}}"#, nested(200));
        let items = list(&[connector("a", "", "", &status)]);
        let unreadable = items[0].read().unwrap_err();
        assert_eq!(
            unreadable.status,
            serde_json::json!({"observedGeneration": 3, "annotations": {"a": "b"}})
        );
    }

    #[test]
    fn events_of_a_watch_and_metadata_alone_are_read_the_same_way() {
        let object = connector("a", &format!(r#","managedFields":[{{"fieldsV1":{}}}]"#, nested(200)), "", "");
        let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        let WatchEvent::Modified(item) = serde_json::from_str::<WatchEvent<Item<Connector>>>(&event).unwrap()
        else {
            panic!()
        };
        assert!(item.read().is_ok());
        let secret = object.replace("Connector", "Secret");
        let item: Item<PartialObjectMeta<Secret>> = serde_json::from_str(&secret).unwrap();
        assert_eq!(item.meta().name.as_deref(), Some("a"));
        assert_eq!(item.meta().managed_fields, None);
    }

    #[test]
    fn a_value_of_another_kind_is_named_by_its_place() {
        let text = connector("a", "", "", "").replace(r#""https://a""#, "[]");
        let items = list(&[text]);
        assert!(items[0].read().unwrap_err().error.contains("expected a string"));
    }
}
