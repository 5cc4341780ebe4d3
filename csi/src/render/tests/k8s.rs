//! The class of config/classes/k8s.yaml: its kubeconfigs and its probes.

use connectors_api::expression::{Expression, Response};

use super::*;

#[test]
fn the_class_breaks_no_rule() {
    assert_eq!(connectors_api::rules::check_class(&k8s()), Ok(()));
}

#[test]
fn the_probes_keep_the_path_of_the_address() {
    let spec = k8s().spec;
    let paths = [spec.liveness_probe, spec.auth_probes[0].probe.clone()]
        .map(|probe| probe.unwrap().http.unwrap().path);
    for (address, prefix) in [
        ("https://10.0.0.1:6443", ""),
        ("https://platform.example/kubernetes/global", "/kubernetes/global"),
        ("https://platform.example/kubernetes/global/", "/kubernetes/global"),
    ] {
        let data = json!({ "Connector": { "Spec": { "Address": address } } });
        let rendered = paths.each_ref().map(|path| Template::parse(path).unwrap().render(&data).unwrap());
        assert_eq!(rendered, [format!("{prefix}/livez"), format!("{prefix}/api")]);
    }
}

#[test]
fn the_kubeconfig_has_the_documented_shape() {
    for address in ["https://10.0.0.1:6443", "https://platform.example/kubernetes/global"] {
        let inputs = inputs(vec![mounted(&k8s(), "k8s-connector-demo", "k8s-connector", address)]);
        let files = rendered("kubeconfig", "", &inputs).unwrap();
        let expected = format!(
            "apiVersion: v1
kind: Config
clusters:
- name: k8s
  cluster:
    server: {address}
    proxy-url: http://k8s-connector-demo%2Fk8s-connector:{TOKEN}@c-k8s-connector.k8s-connector-demo.svc.cluster.local
    certificate-authority-data: {CA_BASE64}
contexts:
- name: k8s
  context:
    cluster: k8s
    user: k8s
users:
- name: k8s
  user:
    token: fake-token
    tokenFile: context.token
current-context: k8s
"
        );
        assert_eq!(files["kubeconfig"], expected);
    }
}

#[test]
fn the_proxy_of_a_kubeconfig_speaks_tls_if_the_volume_asks_for_it() {
    let inputs = inputs(vec![mounted(&k8s(), "demo", "k8s", "https://10.0.0.1:6443")]);
    let params = |scheme: &str| json!({ "kubeconfig": { "proxyScheme": scheme } }).to_string();
    let file = rendered("kubeconfig", &params("https"), &inputs).unwrap().remove("kubeconfig").unwrap();
    assert!(
        file.contains(&format!("proxy-url: https://demo%2Fk8s:{TOKEN}@c-k8s.demo.svc.cluster.local\n")),
        "{file}"
    );
    let refused = rendered("kubeconfig", &params("socks5"), &inputs).unwrap_err();
    assert!(refused.to_string().contains("proxyScheme"), "{refused}");
}

#[test]
fn the_reverse_kubeconfig_names_the_connectors_host_and_no_proxy() {
    for (address, server) in [
        ("https://10.0.0.1:6443", "https://c-k8s.demo.svc"),
        ("https://platform.example/kubernetes/global/", "https://c-k8s.demo.svc/kubernetes/global"),
    ] {
        let inputs = inputs(vec![mounted(&k8s(), "demo", "k8s", address)]);
        let file = rendered("kubeconfig-reverse", "", &inputs).unwrap().remove("kubeconfig-reverse").unwrap();
        assert!(file.contains(&format!("server: {server}\n")), "{file}");
        assert!(
            file.contains("tokenFile: context.token\n")
                && !file.contains("proxy-url")
                && !file.contains(TOKEN),
            "{file}"
        );
    }
}

/// `name server proxy-user` of each cluster, and the current context.
fn clusters(kubeconfig: &str) -> (Vec<(String, String, bool)>, Vec<String>, String) {
    let config: Value = serde_yaml_ng::from_str(kubeconfig).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let clusters = config["clusters"].as_array().unwrap().iter().map(|one| {
        let proxied = one["cluster"]["proxy-url"].as_str().is_some_and(|url| url.contains(TOKEN));
        (text(&one["name"]), text(&one["cluster"]["server"]), proxied)
    });
    let contexts = config["contexts"].as_array().unwrap().iter();
    let contexts = contexts.map(|one| format!("{}={}", text(&one["name"]), text(&one["context"]["cluster"])));
    (clusters.collect(), contexts.collect(), text(&config["current-context"]))
}

#[test]
fn several_connectors_have_a_context_each_and_the_first_is_current() {
    let volume = || {
        inputs(vec![
            mounted(&k8s(), "demo", "one", "https://a"),
            mounted(&k8s(), "other", "two", "https://b/x"),
        ])
    };
    let own = |text: &str| text.to_owned();
    for (names, params, servers, proxied) in [
        ("kubeconfig", "", ["https://a", "https://b/x"], true),
        (
            "kubeconfig",
            r#"{"kubeconfig": {"login": "file"}}"#,
            ["https://c-one.demo.svc", "https://c-two.other.svc/x"],
            false,
        ),
        ("kubeconfig-reverse", "", ["https://c-one.demo.svc", "https://c-two.other.svc/x"], false),
    ] {
        let (found, contexts, current) = clusters(&rendered(names, params, &volume()).unwrap()[names]);
        let expected =
            [(own("demo/one"), own(servers[0]), proxied), (own("other/two"), own(servers[1]), proxied)];
        assert_eq!(found, expected, "{names} {params}");
        assert_eq!(contexts, ["demo/one=demo/one", "other/two=other/two"]);
        assert_eq!(current, "demo/one");
    }
    let refused = rendered("kubeconfig", r#"{"kubeconfig": {"contextName": "x"}}"#, &volume()).unwrap_err();
    assert!(refused.to_string().contains("for a volume with one connector"), "{refused}");
}

#[test]
fn the_context_of_one_connector_has_the_name_that_the_volume_asks_for() {
    let one = inputs(vec![mounted(&k8s(), "demo", "one", "https://a")]);
    let file = rendered("kubeconfig", r#"{"kubeconfig": {"contextName": "prod"}}"#, &one).unwrap();
    let (found, contexts, current) = clusters(&file["kubeconfig"]);
    assert_eq!((found[0].0.as_str(), contexts[0].as_str(), current.as_str()), ("prod", "prod=prod", "prod"));
}

#[test]
fn a_kubeconfig_that_logs_in_by_file_holds_no_token() {
    let one = inputs(vec![mounted(&k8s(), "demo", "one", "https://a")]);
    let file =
        rendered("kubeconfig", r#"{"kubeconfig": {"login": "file"}}"#, &one).unwrap().remove("kubeconfig");
    let file = file.unwrap();
    assert!(
        !file.contains(TOKEN) && !file.contains("token: ") && file.contains("tokenFile: context.token"),
        "{file}"
    );
}

#[test]
fn the_auth_probe_takes_the_answers_of_a_kubernetes_api_and_no_others() {
    let cel = &k8s().spec.auth_probes[0].probe.clone().unwrap().http.unwrap().response.unwrap().cel;
    let expression = Expression::compile(cel).unwrap();
    let (json, page) = ("application/json", "text/html; charset=utf-8");
    for (status, kind, body, takes) in [
        (200, Some(json), r#"{"kind":"APIVersions","versions":["v1"]}"#, true),
        (200, Some("application/json;g=apidiscovery.k8s.io"), r#"{"kind":"APIGroupDiscoveryList"}"#, true),
        (403, Some(json), r#"{"kind":"Status","code":403}"#, true),
        (403, Some(json), r#"{"error":"forbidden"}"#, false),
        (403, Some(page), "<html>", false),
        (401, Some(json), r#"{"kind":"Status","code":401}"#, false),
        (200, Some(page), "<html>", false),
        (200, None, "", false),
        (200, None, r#"{"kind":"APIVersions"}"#, true),
        (200, Some(json), r#"{"name":"some other API"}"#, false),
        (500, Some(json), r#"{"kind":"Status"}"#, false),
    ] {
        let headers: Vec<_> =
            kind.map(|kind| ("content-type".to_owned(), kind.to_owned())).into_iter().collect();
        let response = Response { status, headers: &headers, body: body.as_bytes() };
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(10);
        assert_eq!(expression.evaluate(&response, soon).ok(), Some(takes), "{status} {kind:?} {body}");
    }
}
