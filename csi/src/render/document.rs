//! Whether a rendered file is what its name says: one document. What a value adds to a file that it should
//! not have is seen here at the latest, whatever the class prints it with.

use connectors_api::aliases;
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

/// The format that the file breaks, if its name promises one.
pub fn broken(file: &str, content: &str) -> Option<&'static str> {
    match format(file)? {
        // JSON's own reader takes a key that comes twice; that of YAML, of which JSON is a part, does not.
        Format::Json => {
            let sound = serde_json::from_str::<serde_json::Value>(content).is_ok() && is_one_yaml(content);
            (!sound).then_some("JSON")
        }
        Format::Yaml => (!is_one_yaml(content)).then_some("YAML"),
    }
}

enum Format {
    Json,
    Yaml,
}

fn format(file: &str) -> Option<Format> {
    let file = file.to_ascii_lowercase();
    if file.ends_with(".json") {
        return Some(Format::Json);
    }
    let yaml = file.starts_with("kubeconfig") || file.ends_with(".yaml") || file.ends_with(".yml");
    yaml.then_some(Format::Yaml)
}

/// The reader bounds depth and refuses a key that comes twice. A second document is not read: many would take the time
/// of many files.
fn is_one_yaml(content: &str) -> bool {
    let mut documents = Deserializer::from_str(content);
    let few = documents.next().is_some_and(|document| aliases::are_few(document, content.len()));
    if !few || documents.next().is_some() {
        return false;
    }
    let only = Deserializer::from_str(content).next();
    only.is_some_and(|document| Value::deserialize(document).is_ok_and(|value| !value.is_null()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_file_of_many_documents_with_aliases_is_refused_at_its_second() {
        let document = format!("---\na: &a [{}]\nb: [{}]\n", "1,".repeat(400), "*a,".repeat(300));
        let content = document.repeat((400 << 10) / document.len());
        let begun = Instant::now();
        assert_eq!(broken("values.yaml", &content), Some("YAML"));
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_file_is_one_document_of_what_its_name_says() {
        let bomb = format!(
            "a: &a [x]\n{}",
            (0..30)
                .map(|n| format!(
                    "b{n}: &b{n} [*{0}, *{0}]\n",
                    if n == 0 { "a".into() } else { format!("b{}", n - 1) }
                ))
                .collect::<String>()
        );
        let quadratic = format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(8000), "*a,".repeat(6000));
        for (file, content, format) in [
            ("kubeconfig", "a: b\n", None),
            ("kubeconfig", "a: &a {b: c}\nd: *a\n", None),
            ("values.yaml", &quadratic, Some("YAML")),
            ("kubeconfig", "---\na: b\n", None),
            ("kubeconfig", r#"{"a": "b"}"#, None),
            ("kubeconfig", "a: b\n---\nc: d\n", Some("YAML")),
            ("kubeconfig", "a: b\n---\n", Some("YAML")),
            ("kubeconfig-reverse", "a: b: c\n", Some("YAML")),
            ("kubeconfig", "a: b\na: c\n", Some("YAML")),
            ("kubeconfig", "", Some("YAML")),
            ("values.yaml", "a: [\n", Some("YAML")),
            ("values.yml", &bomb, Some("YAML")),
            ("values.yaml", &"[".repeat(10_000), Some("YAML")),
            ("config.json", r#"{"auths": {}}"#, None),
            ("config.json", r#"{"auths": {}}{}"#, Some("JSON")),
            ("config.json", "a: b", Some("JSON")),
            ("config.json", r#"{"a": 1, "a": 2}"#, Some("JSON")),
            ("VALUES.YAML", "a: b: c", Some("YAML")),
            ("settings.ini", "a: b: c\n---\n", None),
            ("my-kubeconfig", "a: b: c\n", None),
        ] {
            assert_eq!(broken(file, content), format, "{file}: {:.40}", content);
        }
    }
}
