//! The pages of `docs/use-in/` against a real API server: with the CRDs and manifests of these tools, where they
//! are to be had. `jobs.md` is followed on a node.

use std::collections::BTreeSet;
use std::ffi::OsString;

use connectors_acceptance::pages::{Case, How, Page, block, follow, read, shell};
use connectors_testenv::{ControlPlane, manifest};
use serde::Deserialize;
use serde_json::{Value, json};
use toml_edit::{DocumentMut, Item};

use crate::{folder, install, printed};

const TEKTON: &str = "the Go module with Tekton's CRDs is not to be had";

const PAGES: [Page; 5] = [
    Page {
        path: "docs/use-in/tekton.md",
        values: &[("<name of the TaskRun>", "list-pods-1")],
        before: "",
        cases: &[
            Case("apiVersion: tekton.dev/v1\nkind: Task\n", How::Not(TEKTON)),
            Case("apiVersion: tekton.dev/v1\nkind: Pipeline\n", How::Not(TEKTON)),
        ],
    },
    Page {
        path: "docs/use-in/flux.md",
        values: &[],
        // What controller and gateway make on a node.
        before: "kubectl create configmap c-k8s-connector -n k8s-connector-demo --from-literal provider=generic",
        cases: &[
            Case("# kustomization.yaml", How::File("")),
            Case(
                "# token-creator.yaml",
                How::File(
                    "cp \"$FLUX_CONTROLLER\" gotk-components.yaml
                     kubectl create configmap gotk-sync --dry-run=client -o yaml >gotk-sync.yaml
                     kubectl kustomize . >all
                     grep -qxF -e '        - --feature-gates=ObjectLevelWorkloadIdentity=true' all
                     kubectl apply --server-side --validate=strict --dry-run=server -n flux-system -f all",
                ),
            ),
        ],
    },
    Page {
        path: "docs/use-in/argo-cd.md",
        values: &[],
        before: "",
        cases: &[
            Case("# kustomization.yaml", How::File("")),
            Case("# controller.yaml", How::File("")),
            Case(
                "# server.yaml",
                How::File(
                    "cp \"$ARGO_CD\" install.yaml
                     kubectl apply --server-side --validate=strict -k .
                     # Fails where a CRD has no conditions yet.
                     for try in $(seq 30); do
                       kubectl wait --for condition=Established crd --all --timeout 30s && break
                       sleep 1
                     done",
                ),
            ),
        ],
    },
    Page {
        path: "docs/use-in/jenkins.md",
        values: &[],
        before: "",
        cases: &[Case("pipeline {", How::Not("a pipeline: its Pod is tried by the test of the volumes"))],
    },
    Page {
        path: "docs/use-in/gitlab.md",
        values: &[],
        before: "",
        cases: &[
            Case("# config.toml", How::Not("the runner's: its volume is tried by the test of the volumes")),
            Case("gitlabUrl:", How::Not("values of the runner's chart: their volume is tried there, too")),
            Case("# .gitlab-ci.yml", How::Not("GitLab's own")),
        ],
    },
];

const NAMESPACES: [&str; 6] =
    ["k8s-connector-demo", "team-a", "flux-system", "argocd", "jenkins-agents", "gitlab-jobs"];

/// With the product, what the pages take for granted, and the CRDs of Flux.
async fn prepared() -> (ControlPlane, Vec<(&'static str, OsString)>) {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    for namespace in NAMESPACES {
        printed(&cluster, &["create", "namespace", namespace]).await;
    }
    let sample = std::fs::read_to_string(folder("config/samples/connector.yaml")).unwrap();
    let connector = sample.split("---").nth(1).unwrap().replace("$TARGET_ADDRESS", "https://10.0.0.1:6443");
    cluster
        .apply(
            &connector
                .replace("name: k8s-connector\n", "name: k8s-connector\n  namespace: k8s-connector-demo\n"),
        )
        .await
        .unwrap();
    let files = tokio::task::spawn_blocking(|| {
        ["flux-kustomizations.yaml", "flux-kustomize-controller.yaml", "argo-cd.yaml"].map(manifest)
    });
    let [kustomizations, controller, argo_cd] = files.await.unwrap().map(Result::unwrap);
    printed(&cluster, &["apply", "--server-side", "-f", kustomizations.to_str().unwrap()]).await;
    cluster.established().await.unwrap();
    let env = vec![
        ("KUBECONFIG", cluster.kubeconfig().into()),
        ("FLUX_CONTROLLER", controller.into()),
        ("ARGO_CD", argo_cd.into()),
    ];
    (cluster, env)
}

#[tokio::test]
async fn each_page_of_use_in_is_taken_by_an_api_server_as_written() {
    let (_cluster, env) = prepared().await;
    for page in &PAGES {
        follow(page, &env).await.unwrap();
    }
}

#[test]
fn no_page_of_use_in_is_forgotten() {
    let files = std::fs::read_dir(folder("docs/use-in")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| format!("docs/use-in/{}", file.unwrap().file_name().to_str().unwrap())).collect();
    let known = PAGES.iter().map(|page| page.path).chain(["docs/use-in/jobs.md"]);
    assert_eq!(files, known.map(str::to_owned).collect());
}

/// Or the test above would show little.
#[tokio::test]
async fn a_misspelt_field_of_another_tools_kind_is_refused() {
    let (_cluster, env) = prepared().await;
    let fields = [
        ("configMapRef", "configMapref", ".spec.kubeConfig.configMapref: field not declared in schema"),
        ("sourceRef", "source", ".spec.source: field not declared in schema"),
        ("interval: 10m", "interval: ten", "spec.interval in body should match"),
    ];
    let right = block(
        "docs/use-in/flux.md",
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: shop-deployer\n  namespace: k8s",
    );
    let right = right.unwrap().text;
    for (field, wrong, words) in fields {
        assert!(right.contains(field), "{field}");
        let apply = "kubectl apply --server-side --validate=strict --dry-run=server -f -";
        let script = format!("{apply} <<'END'\n{}END", right.replace(field, wrong));
        let refused = shell(&script, &env).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{wrong}: {refused}");
    }
}

/// What each tool's own syntax says of a volume: the API server takes it in a Pod, and the driver has its
/// attributes.
#[tokio::test]
async fn each_volume_of_use_in_has_attributes_that_the_driver_knows() {
    let (cluster, _) = prepared().await;
    printed(&cluster, &["create", "serviceaccount", "default", "-n", "team-a"]).await;
    let known = attributes();
    for (page, at_least) in [("tekton", 2), ("jenkins", 1), ("gitlab", 2), ("jobs", 2)] {
        let page = format!("docs/use-in/{page}.md");
        let volumes = volumes(&page);
        assert!(volumes.len() >= at_least, "{page} has {} volumes", volumes.len());
        for volume in volumes {
            assert_eq!(volume["driver"], "connectors-csi", "{page}: {volume}");
            assert_eq!(volume["readOnly"], true, "{page}: {volume}");
            for name in volume["volumeAttributes"].as_object().unwrap().keys() {
                assert!(known.contains(name), "{page}: attribute {name}");
            }
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried", "namespace": "team-a"},
                "spec": {"containers": [{"name": "one", "image": "any"}], "volumes": [{"name": "kubeconfig", "csi": volume}]},
            });
            let apply = ["apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-"];
            cluster.feed(&apply, &pod.to_string()).await.unwrap_or_else(|error| panic!("{page}: {error:#}"));
        }
    }
}

/// The names in docs/csi-volumes.md.
fn attributes() -> BTreeSet<String> {
    let page = std::fs::read_to_string(folder("docs/csi-volumes.md")).unwrap();
    let table = page.split("| attribute |").nth(1).unwrap().split("\n\n").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

fn volumes(page: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for block in read(page).unwrap() {
        match block.language.as_str() {
            "yaml" => of_yaml(&block.text, &mut found),
            "groovy" => of_yaml(block.text.split("'''").nth(1).unwrap(), &mut found),
            "toml" => of_toml(&block.text, &mut found),
            _ => {}
        }
    }
    found
}

fn of_yaml(text: &str, found: &mut Vec<Value>) {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        of_object(&Value::deserialize(document).unwrap(), found);
    }
}

fn of_object(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("csi").cloned());
            fields.values().for_each(|value| of_object(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| of_object(item, found)),
        Value::String(text) if text.contains("[[runners.kubernetes.volumes.csi]]") => of_toml(text, found),
        _ => {}
    }
}

/// Of GitLab's runner: <https://docs.gitlab.com/runner/executors/kubernetes/#configure-container-storage-interface-csi-volume>.
fn of_toml(text: &str, found: &mut Vec<Value>) {
    let text: DocumentMut = text.parse().unwrap();
    for runner in text["runners"].as_array_of_tables().unwrap() {
        for volume in runner["kubernetes"]["volumes"]["csi"].as_array_of_tables().unwrap() {
            let attributes = volume["volume_attributes"].as_table().unwrap();
            let string = |item: &Item| item.as_str().unwrap().to_owned();
            let attributes: serde_json::Map<String, Value> =
                attributes.iter().map(|(name, value)| (name.to_owned(), string(value).into())).collect();
            found.push(json!({
                "driver": string(&volume["driver"]), "readOnly": volume["read_only"].as_bool().unwrap(),
                "volumeAttributes": attributes,
            }));
        }
    }
}
