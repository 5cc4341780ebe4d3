//! The pages that need no node: how to install and to operate, classes, and the quick start in its two languages. The
//! others are followed in `node_product` and in `use_in`.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD, Engine};
use connectors_acceptance::pages::{Block, Case, How, Page, block, follow, read, shell};
use connectors_testenv::ControlPlane;
use connectors_testenv::pki::Identity;

use crate::{folder, install, printed};

const PAGE: &str = "docs/installation.md";
const BY_HELM: &str = "helm install connectors";

const INSTALLATION: Page = Page {
    path: PAGE,
    values: &[("<your values>", "\"$SCRATCH/values.yaml\"")],
    before: "echo 'gateway: {replicas: 3}' >\"$SCRATCH/values.yaml\"",
    cases: &[
        Case(
            "sha256sum --check",
            How::Not("what `make release` makes: `released` checks the sums, testenv imports by ctr"),
        ),
        Case(
            "kubectl apply -k config/default",
            How::Not("the other way to install: each test of this program begins with it"),
        ),
        Case(
            "# kustomization.yaml",
            How::File(
                "cp -r \"$OLDPWD/config\" .
                 kubectl kustomize . | kubectl create --dry-run=client -o name -f - >all
                 grep -qx configmap/connectors-gateway all
                 if grep -x configmap/connectors-classes all; then exit 1; fi",
            ),
        ),
        Case(
            "kubectl create namespace connectors-system\n",
            How::Not("before an installation: in the next test"),
        ),
        Case("kubectl get connectorclass k8s", How::Not("needs running Pods: node_product does it")),
        // There is no node: `the_quick_start…` of node_product runs this line.
        Case(
            "helm show crds",
            How::Without("kubectl rollout status -n connectors-system deployment/connectors-gateway"),
        ),
    ],
};

const OPERATIONS: Page = Page {
    path: "docs/operations.md",
    values: &[("<name>", "k8s-connector"), ("<fingerprint>", "0a1b")],
    // What a controller makes, and a tenant.
    before: "kubectl create namespace team-a
        kubectl config set-context --current --namespace team-a
        TARGET_TOKEN=t TARGET_ADDRESS=https://target.example envsubst <config/samples/connector.yaml | kubectl apply -f -
        kubectl create rolebinding users --clusterrole connectors-user --group system:serviceaccounts:team-b
        for name in connectors-ca connectors-gateway-ca; do kubectl create secret generic $name -n connectors-system; done
        kubectl create configmap connectors-ca-bundle -n connectors-system --from-literal ca.crt='-----BEGIN CERTIFICATE-----'",
    cases: &[
        Case("kubectl get secret connectors-ca", How::After("cd \"$SCRATCH\"")),
        Case(
            "kubectl get configmap connectors-ca-bundle",
            How::After(
                "kubectl create configmap connectors-ca-bundle -n connectors-system --from-literal ca.crt='-----BEGIN CERTIFICATE-----'",
            ),
        ),
        // The page goes on with a connector.
        Case(
            "kubectl annotate connector <name> connectors.cpaas.io/accept",
            How::After(
                "kubectl delete quota no-connectors -n team-a
                 TARGET_TOKEN=t TARGET_ADDRESS=https://target.example envsubst <\"$OLDPWD/config/samples/connector.yaml\" | kubectl apply -f -",
            ),
        ),
        Case("targets:\n  deny:", How::Within(SETTINGS, TAKEN_BY_THE_CHART)),
        Case("targets:\n  allow:", How::Within(SETTINGS, TAKEN_BY_THE_CHART)),
        Case("kubectl port-forward", How::Not("needs running Pods")),
    ],
};
const SETTINGS: &str = "{kind: ConfigMap, apiVersion: v1, metadata: {name: tried, namespace: team-a}}\ndata:\n  settings: |\n    FRAGMENT";
const TAKEN_BY_THE_CHART: &str = "printf 'gateway:\\n  settings:\\n' >values.yaml
    kubectl get configmap tried -o 'jsonpath={.data.settings}' | sed 's/^/    /' >>values.yaml
    helm template connectors \"$OLDPWD/charts/connectors\" -f values.yaml >/dev/null";

const CLASSES: Page = Page {
    path: "docs/classes.md",
    values: &[],
    before: "",
    cases: &[Case("livenessProbe:", How::Within(CLASS, "")), Case("configurations:", How::Within(CLASS, ""))],
};
const CLASS: &str = "apiVersion: connectors.alauda.io/v1alpha1\nkind: ConnectorClass\nmetadata: {name: tried}\nspec:\n  FRAGMENT";

#[tokio::test]
async fn what_operators_and_authors_of_classes_read_can_be_typed_as_it_stands() {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    for page in [&CLASSES, &OPERATIONS] {
        follow(page, &[("KUBECONFIG", cluster.kubeconfig().into())]).await.unwrap();
    }
}

/// The programs that follow pages, and the test below for the Chinese one.
#[test]
fn each_page_with_commands_is_followed_by_a_test() {
    let programs = ["config/pages.rs", "config/use_in.rs", "node_product/pages.rs"]
        .map(|file| std::fs::read_to_string(folder(&format!("acceptance/tests/{file}"))).unwrap());
    let mut with_commands = BTreeSet::new();
    for place in ["docs", "docs/use-in", "docs/zh"] {
        for file in std::fs::read_dir(folder(place)).unwrap() {
            let page = format!("{place}/{}", file.unwrap().file_name().to_str().unwrap());
            let commands = |block: &Block| block.language.is_empty();
            if page.ends_with(".md") && read(&page).unwrap().iter().any(commands) {
                with_commands.insert(page);
            }
        }
    }
    assert!(with_commands.len() > 12, "{with_commands:?}");
    for page in with_commands {
        let quoted = format!("\"{page}\"");
        assert!(programs.iter().any(|program| program.contains(&quoted)), "nobody follows {page}");
    }
}

#[tokio::test]
async fn the_installation_goes_as_its_page_says() {
    let cluster = ControlPlane::start().await.unwrap();
    follow(&INSTALLATION, &[("KUBECONFIG", cluster.kubeconfig().into())]).await.unwrap();
    // The last thing that the page did was an upgrade with a value.
    let replicas = [
        "get",
        "deployment",
        "connectors-gateway",
        "-n",
        "connectors-system",
        "-o",
        "jsonpath={.spec.replicas}",
    ];
    assert_eq!(printed(&cluster, &replicas).await, "3");
}

#[tokio::test]
async fn a_root_of_ones_own_is_put_in_place_before_helm_as_the_page_says() {
    let cluster = ControlPlane::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = Identity::self_signed("root");
    std::fs::write(folder.path().join("root.crt"), root.cert.to_pem().unwrap()).unwrap();
    std::fs::write(folder.path().join("root.key"), root.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let secret = block(PAGE, "kubectl create namespace connectors-system\n").unwrap().text;
    let helm = block(PAGE, BY_HELM).unwrap().text;
    let there = "kubectl get secret connectors-ca -n connectors-system -o 'jsonpath={.data.tls\\.crt}'";
    let script = format!("(cd '{}'\n{secret})\n{helm}\n{there}", folder.path().display());
    let root = BASE64_STANDARD.encode(root.cert.to_pem().unwrap());
    let said = shell(&script, &[("KUBECONFIG", cluster.kubeconfig().into())]).await.unwrap();
    assert!(said.contains(&root), "Helm left the certificate as it is: {said}");
}

#[test]
fn both_languages_of_the_quick_start_have_the_same_commands_and_outputs() {
    // What stands in `<…>` is translated.
    let same = |block: Block| {
        let mut parts = block.text.split('<');
        let first = parts.next().unwrap_or_default().to_owned();
        let text = parts.fold(first, |text, part| {
            format!("{text}<{}", part.split_once('>').map_or(part, |(_, rest)| rest))
        });
        (block.language, text)
    };
    let [english, chinese] = ["docs/quick-start.md", "docs/zh/quick-start.md"]
        .map(|page| read(page).unwrap().into_iter().map(same).collect::<Vec<_>>());
    assert!(english.len() > 12, "{} blocks", english.len());
    assert_eq!(english, chinese);
}
