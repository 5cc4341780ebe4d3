//! What lies in a volume: the built-in files, and what small classes of our own render. `k8s` is about the shipped class.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectors_api::Connector;
use connectors_api::attributes;
use serde_json::json;
use tonic::Code;

use super::*;

mod k8s;
mod size;

const TOKEN: &str = "the.sa.token";
const CA: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const CA_BASE64: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

fn k8s() -> ConnectorClass {
    serde_yaml_ng::from_str(include_str!("../../../config/classes/k8s.yaml")).unwrap()
}

fn class(name: &str, configurations: Value) -> ConnectorClass {
    let class = json!({ "metadata": { "name": name }, "spec": { "configurations": configurations } });
    serde_json::from_value(class).unwrap()
}

fn mounted(class: &ConnectorClass, namespace: &str, name: &str, address: &str) -> VolumeConnector {
    let class_name = class.metadata.name.clone().unwrap();
    let connector: Connector = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "connectorClassName": class_name, "address": address },
        "status": { "proxy": { "httpAddress": { "url": format!("http://c-{name}.{namespace}.svc.cluster.local") } } },
    }))
    .unwrap();
    let reference =
        connectors_api::proxy_auth::ConnectorRef { namespace: namespace.into(), name: name.into() };
    VolumeConnector { reference, connector, class: Arc::new(class.clone()) }
}

fn inputs(connectors: Vec<VolumeConnector>) -> Inputs {
    Inputs {
        connectors,
        ca_bundle: CA.into(),
        cluster_domain: "cluster.local".into(),
        api_server: Some("10.96.0.1".into()),
    }
}

fn wants(names: &str, params: &str) -> VolumeAttributes {
    let attributes =
        [("connector.name", "x"), ("configuration.names", names), ("configuration.params", params)];
    let attributes: BTreeMap<String, String> =
        attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    attributes::parse(&attributes, "demo").unwrap()
}

fn rendered(names: &str, params: &str, inputs: &Inputs) -> Result<BTreeMap<String, String>, Error> {
    let files = render(&wants(names, params), &SecretString::from(TOKEN), inputs)?;
    Ok(files.into_iter().map(|(name, content)| (name, content.expose_secret().to_owned())).collect())
}

fn one_file(text: &str, connectors: Vec<VolumeConnector>) -> Result<String, Error> {
    let class = class("own", json!([{ "name": "it", "data": { "file": text } }]));
    let mut connectors = connectors;
    if let Some(last) = connectors.last_mut() {
        last.class = Arc::new(class);
    }
    rendered("it", "", &inputs(connectors)).map(|mut files| files.remove("file").unwrap())
}

#[test]
fn without_configurations_there_are_the_built_in_files() {
    let inputs = inputs(vec![mounted(&k8s(), "demo", "k8s", "https://a")]);
    let url = format!("http://demo%2Fk8s:{TOKEN}@c-k8s.demo.svc.cluster.local:80");
    let direct = "localhost,127.0.0.1,::1,kubernetes,kubernetes.default,kubernetes.default.svc,\
                  kubernetes.default.svc.cluster.local,10.96.0.1,.svc,.cluster.local";
    let environment = format!(
        "http_proxy={url}\nHTTP_PROXY={url}\nhttps_proxy={url}\nHTTPS_PROXY={url}\nno_proxy={direct}\nNO_PROXY={direct}\n"
    );
    let expected = [
        (".env", environment.as_str()),
        ("ca.cert", CA),
        ("ca.crt", CA),
        ("connector.status.proxyAddress", "http://c-k8s.demo.svc.cluster.local"),
        ("context.proxy.caCert", CA),
        ("context.token", TOKEN),
        ("http.proxy", url.as_str()),
        ("https.proxy", url.as_str()),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(rendered("", "", &inputs).unwrap(), expected);
}

#[test]
fn what_is_a_connectors_target_goes_through_the_proxy_although_it_is_of_this_cluster() {
    for (address, absent, present) in [
        ("https://kubernetes.default.svc", &["kubernetes.default.svc", ".svc"][..], &[".cluster.local"][..]),
        ("https://10.96.0.1/a", &["10.96.0.1"], &["kubernetes", ".svc"]),
        ("https://vcluster.team.svc:8443", &[".svc"], &["kubernetes.default.svc", ".cluster.local"]),
        ("https://vcluster.team.svc.cluster.local", &[".cluster.local"], &["kubernetes.default.svc"]),
    ] {
        let files = rendered("", "", &inputs(vec![mounted(&k8s(), "demo", "k8s", address)])).unwrap();
        let line = files[".env"].lines().find_map(|line| line.strip_prefix("no_proxy=")).unwrap();
        let direct: Vec<&str> = line.split(',').collect();
        assert!(absent.iter().all(|one| !direct.contains(one)), "{address}: {line}");
        assert!(present.iter().all(|one| direct.contains(one)), "{address}: {line}");
    }
}

#[test]
fn a_class_without_a_proxy_leaves_the_proxy_files_out() {
    let mut one = mounted(&class("own", json!([])), "demo", "x", "https://a");
    one.connector.status = None;
    let files = rendered("", "", &inputs(vec![one])).unwrap();
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["ca.cert", "ca.crt", "context.proxy.caCert", "context.token"]
    );
}

#[test]
fn a_path_resolvers_address_keeps_its_path_but_the_forward_proxy_has_none() {
    let mut one = mounted(&k8s(), "demo", "oci", "https://a");
    let url = "http://c-oci.demo.svc.cluster.local:81/namespaces/demo/connectors/oci";
    one.connector.status =
        serde_json::from_value(json!({ "proxy": { "httpAddress": { "url": url } } })).unwrap();
    let files = rendered("", "", &inputs(vec![one])).unwrap();
    assert_eq!(files["connector.status.proxyAddress"], url);
    assert_eq!(files["http.proxy"], format!("http://demo%2Foci:{TOKEN}@c-oci.demo.svc.cluster.local:81"));
}

#[test]
fn several_connectors_share_one_login_at_the_last_ones_proxy() {
    let inputs = inputs(vec![
        mounted(&k8s(), "demo", "a", "https://a"),
        mounted(&k8s(), "kube-public", "b", "https://b"),
    ]);
    let files = rendered("", "", &inputs).unwrap();
    assert_eq!(
        files["http.proxy"],
        format!("http://demo%2Fa,kube-public%2Fb:{TOKEN}@c-b.kube-public.svc.cluster.local:80")
    );
    assert_eq!(files["connector.status.proxyAddress"], "http://c-b.kube-public.svc.cluster.local");
}

#[test]
fn every_documented_variable_reaches_a_template() {
    let connectors =
        || vec![mounted(&k8s(), "demo", "a", "https://a"), mounted(&k8s(), "demo", "b", "https://b/p")];
    for (text, expected) in [
        (
            "{{ .connector.metadata.namespace }}/{{ .connector.metadata.name }} {{ .connector.name }}",
            "demo/b b",
        ),
        ("{{ .connector.spec.address }} {{ .connector.spec.connectorClassName }}", "https://b/p k8s"),
        ("{{ .connector.status.proxyAddress }}", "http://c-b.demo.svc.cluster.local"),
        (
            "{{ range .connectors }}{{ .name }}={{ .metadata.name }}@{{ .spec.address }}@{{ .status.proxyAddress }};{{ end }}",
            "a=a@https://a@http://c-a.demo.svc.cluster.local;b=b@https://b/p@http://c-b.demo.svc.cluster.local;",
        ),
        ("{{ .context.token }}", TOKEN),
        ("{{ .context.proxy.caCert }}", CA),
    ] {
        assert_eq!(one_file(text, connectors()).unwrap(), expected, "{text}");
    }
}

#[test]
fn the_class_proxy_address_is_that_of_its_status_or_of_its_service() {
    let service = json!({ "ref": { "kind": "Service", "name": "connectors-gateway", "namespace": "connectors-system" } });
    let status = json!({ "proxy": { "httpAddress": { "url": "http://shared.example" } } });
    for (proxy, status, expected) in [
        (service.clone(), json!({}), "http://connectors-gateway.connectors-system.svc.cluster.local"),
        (json!({ "uri": "http://proxy.example:81" }), json!({}), "http://proxy.example:81"),
        (service, status, "http://shared.example"),
    ] {
        let mut class =
            class("own", json!([{ "name": "it", "data": { "file": "{{ .connectorclass.proxyAddress }}" } }]));
        class.spec.proxy = serde_json::from_value(proxy).unwrap();
        class.status = serde_json::from_value(status).unwrap();
        let files = rendered("it", "", &inputs(vec![mounted(&class, "demo", "x", "https://a")])).unwrap();
        assert_eq!(files["file"], expected);
    }
}

#[test]
fn later_configurations_win_over_earlier_ones_and_all_over_the_built_in_files() {
    let one = class(
        "one",
        json!([{ "name": "a", "data": { "f": "one-a", ".env": "own" } }, { "name": "b", "data": { "f": "one-b", "g": "g" } }]),
    );
    let two = class("two", json!([{ "name": "b", "data": { "f": "two-b" } }]));
    let inputs =
        inputs(vec![mounted(&one, "demo", "x", "https://a"), mounted(&two, "demo", "y", "https://b")]);
    for (names, f) in [("a", "one-a"), ("a,b", "two-b"), ("b,a", "one-a")] {
        assert_eq!(rendered(names, "", &inputs).unwrap()["f"], f, "{names}");
    }
    assert_eq!(rendered("a", "", &inputs).unwrap()[".env"], "own");
    assert_eq!(rendered("b", "", &inputs).unwrap()["g"], "g");
}

#[test]
fn exclusions_come_last_and_name_files() {
    let inputs = inputs(vec![mounted(&k8s(), "demo", "k8s", "https://a")]);
    let files = rendered("kubeconfig,!context.token,!.env,!nothing", "", &inputs).unwrap();
    assert!(
        files.contains_key("kubeconfig")
            && !files.contains_key("context.token")
            && !files.contains_key(".env")
    );
    assert!(!rendered("!ca.cert", "", &inputs).unwrap().contains_key("ca.cert"));
}

#[test]
fn an_unknown_configuration_is_refused_with_the_known_ones_unless_another_is_known() {
    let inputs = inputs(vec![mounted(&k8s(), "demo", "k8s", "https://a")]);
    let error = rendered("kubecfg", "", &inputs).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.to_string(),
        r#"none of the configurations ["kubecfg"] exists: connectorclass "k8s" has kubeconfig, kubeconfig-reverse"#
    );
    assert!(rendered("kubecfg,kubeconfig", "", &inputs).is_ok());
}

#[test]
fn parameters_are_required_defaulted_and_checked() {
    let params = json!([
        { "name": "registry" },
        { "name": "strictSSL", "default": "true", "enum": ["true", "false"] },
        { "name": "note", "default": "" },
    ]);
    let text = "{{ .configurations.registry }} {{ .configurations.strictSSL }} [{{ .configurations.note }}] {{ index .configurations \"x-y\" }}";
    let class = class("own", json!([{ "name": "npmrc", "params": params, "data": { "f": text } }]));
    let inputs = inputs(vec![mounted(&class, "demo", "x", "https://a")]);
    let good = r#"{"npmrc":{"registry":"r","x-y":"z"},"other":{"registry":"no"}}"#;
    assert_eq!(rendered("npmrc", good, &inputs).unwrap()["f"], "r true [] z");
    for (params, text) in [
        ("", r#"configuration "npmrc" needs parameter "registry""#),
        (
            r#"{"npmrc":{"registry":"r","strictSSL":"no"}}"#,
            r#"has "no" for parameter "strictSSL": choose one of true, false"#,
        ),
    ] {
        let error = rendered("npmrc", params, &inputs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_template_that_misses_a_value_names_class_configuration_and_file() {
    let error = one_file("{{ .connector.spec.nothing }}", vec![mounted(&k8s(), "demo", "x", "https://a")])
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let text = error.to_string();
    assert!(
        text.contains(r#"file "file" of configuration "it" in connectorclass "own""#)
            && !text.contains(TOKEN),
        "{text}"
    );
}

/// A class that prints values as they are, by accident or before there was `yamlScalar`.
#[test]
fn a_value_that_would_add_a_document_or_break_one_is_refused_whatever_the_class_prints_it_with() {
    let address = "https://a\nb: {exec: {command: sh}}\n---\n";
    for (file, text, written) in [
        ("kubeconfig", "server: {{ .connector.spec.address }}\n", None),
        (
            "kubeconfig",
            "server: {{ .connector.spec.address | yamlScalar }}\n",
            Some("server: \"https://a\\x0ab: {exec: {command: sh}}\\x0a---\\x0a\"\n"),
        ),
        ("auth.json", r#"{"a": "{{ .connector.spec.address }}"}"#, None),
        (
            "auth.json",
            r#"{"a": {{ .connector.spec.address | toJson }}}"#,
            Some(r#"{"a": "https://a\nb: {exec: {command: sh}}\n---\n"}"#),
        ),
    ] {
        let class = class("own", json!([{ "name": "it", "data": { file: text } }]));
        let rendered = rendered("it", "", &inputs(vec![mounted(&class, "demo", "x", address)]));
        match written {
            Some(written) => assert_eq!(rendered.unwrap()[file], written),
            None => {
                let error = rendered.unwrap_err();
                assert_eq!(error.code(), Code::FailedPrecondition);
                assert!(
                    error.to_string().contains("would be no single document")
                        && !error.to_string().contains("exec"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn an_annotation_that_would_end_its_line_is_not_there_for_templates() {
    let with = |value: &str| {
        let mut one = mounted(&k8s(), "demo", "x", "https://a");
        one.connector.metadata.annotations = Some([("a".to_owned(), value.to_owned())].into());
        one_file("{{ index .connector.metadata.annotations \"a\" }}", vec![one])
    };
    assert_eq!(with("one line: # and more").unwrap(), "one line: # and more");
    for evil in ["two\nlines", "two\r", "\u{2028}", "\u{202e}"] {
        assert!(with(evil).is_err(), "{evil:?}");
    }
}
