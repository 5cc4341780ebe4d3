//! The pages of `docs/` whose commands need a running cluster, as a reader follows them. Those on installation are
//! followed in `config`, which can install and uninstall as it likes.

use std::ffi::OsString;

use anyhow::{Context, Result};

use connectors_acceptance::cluster::Cluster;
use connectors_acceptance::matrix::{Mount, Row, pod};
use connectors_acceptance::pages::{Case, How, Page, block, follow, shell};

/// Of the quick start: the other pages look at it.
const NAMESPACE: &str = "k8s-connector-demo";

/// `Cluster::install` runs it, as the first line of a block of docs/installation.md.
const INSTALL: &str = "helm install connectors charts/connectors -n connectors-system --create-namespace";

const QUICK_START: Page = Page {
    path: "docs/quick-start.md",
    values: &[("<kubeconfig of the target>", "\"$TARGET_KUBECONFIG\"")],
    // This target is an API server alone: nobody aggregates the rules of its ClusterRole `view`.
    before: "command -v envsubst >/dev/null || { echo 'envsubst is missing: install gettext-base (as Debian calls it)' >&2; exit 1; }
        rules=$(kubectl --kubeconfig \"$TARGET_KUBECONFIG\" get clusterrole system:aggregate-to-view -o 'jsonpath={.rules}')
        kubectl --kubeconfig \"$TARGET_KUBECONFIG\" patch clusterrole view --type merge -p \"{\\\"rules\\\":$rules}\"",
    cases: &[
        Case(INSTALL, How::Without(INSTALL)),
        Case(CLEAN_UP, How::Not("the other pages look at its namespace: it is run after them")),
    ],
};
const CLEAN_UP: &str = "kubectl delete ns k8s-connector-demo";

/// In this order: one builds on what another has made.
const PAGES: [Page; 6] = [
    Page {
        path: "docs/concepts.md",
        values: &[("<connector's namespace>", NAMESPACE)],
        before: "",
        cases: &[],
    },
    Page {
        path: "docs/connector-status.md",
        values: &[("<namespace>", NAMESPACE), ("<name>", "k8s-connector")],
        before: "",
        cases: &[],
    },
    Page {
        path: "docs/csi-volumes.md",
        values: &[("<pod>", "inspect"), ("<namespace>", NAMESPACE)],
        before: "kubectl create namespace team-b
            envsubst <config/samples/connector.yaml | sed 's/name: k8s-connector$/name: staging/' | kubectl apply -n team-b -f -
            kubectl create rolebinding demo -n team-b --clusterrole connectors-user --serviceaccount k8s-connector-demo:default
            kubectl wait --for condition=Ready -n team-b connector/staging --timeout 60s",
        cases: &[
            Case("apiVersion: v1\nkind: Pod", How::Applied("kubectl wait --for condition=Ready -n k8s-connector-demo pod/inspect --timeout 60s")),
            Case("connectors: k8s-connector,team-b/staging", How::Within(TWO, "kubectl wait --for condition=Ready -n k8s-connector-demo pod/two --timeout 60s")),
        ],
    },
    Page {
        path: "docs/kubeconfigs.md",
        values: &[],
        before: "",
        cases: &[
            Case("apiVersion: v1\nkind: Config", How::Among("kubectl exec -n k8s-connector-demo inspect -- cat /opt/kube/kubeconfig")),
            Case("cluster:", How::Among("kubectl exec -n k8s-connector-demo tools -- cat /opt/kube/kubeconfig-reverse")),
            Case(
                "configuration.params:",
                How::Within(
                    WITH_PARAMETERS,
                    "kubectl wait --for condition=Ready -n k8s-connector-demo pod/with-parameters --timeout 60s
                     kubectl exec -n k8s-connector-demo with-parameters -- grep 'proxy-url: https://' /opt/kube/kubeconfig",
                ),
            ),
            Case("curl ", How::Inside("kubectl exec -i -n k8s-connector-demo tools -- sh -eu")),
            Case("kubectl --context", How::Inside("kubectl exec -i -n k8s-connector-demo two -- sh -eu")),
        ],
    },
    Page {
        path: "docs/token-permissions.md",
        values: &[("<of the target>", "\"$TARGET_KUBECONFIG\"")],
        before: "home=$KUBECONFIG
            kubectl --kubeconfig \"$TARGET_KUBECONFIG\" create namespace shop",
        cases: &[Case(
            "kubectl create secret generic k8s-secret",
            How::After(
                "export KUBECONFIG=$home
                 cd \"$SCRATCH\"
                 kubectl --kubeconfig \"$TARGET_KUBECONFIG\" create token reader -n default >token.txt",
            ),
        )],
    },
    Page {
        path: "docs/use-in/jobs.md",
        values: &[],
        // That `ci:deployer` may use the Connector is of docs/concepts.md.
        before: "kubectl create namespace ci
            kubectl create serviceaccount deployer -n ci
            kubectl create namespace ci-restricted
            kubectl label namespace ci-restricted pod-security.kubernetes.io/enforce=restricted
            kubectl create serviceaccount deployer -n ci-restricted
            kubectl create rolebinding restricted -n k8s-connector-demo --clusterrole connectors-user --serviceaccount ci-restricted:deployer",
        cases: &[
            Case("apiVersion: batch/v1\nkind: Job", How::Among("cat config/samples/job.yaml")),
            Case("volumeAttributes:", How::Within(ELSEWHERE, "kubectl wait --for condition=Ready -n ci pod/elsewhere --timeout 60s")),
            Case("securityContext:", How::Within(RESTRICTED, "kubectl wait --for condition=Ready -n ci-restricted pod/restricted --timeout 60s
                 kubectl exec -n ci-restricted restricted -- kubectl get pods -A")),
        ],
    },
];

/// A Pod of which a page shows a part: what stands in the container, and what below `csi`.
macro_rules! pod {
    ($name:literal, $namespace:literal, $account:literal, $container:literal, $volume:literal) => {
        concat!(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: ", $name, ", namespace: ", $namespace, "}\nspec:\n",
            "  serviceAccountName: ", $account, "\n  terminationGracePeriodSeconds: 0\n  containers:\n",
            "  - name: kubectl\n    image: alpine/kubectl:1.35.4\n    command: [sleep, '3600']\n",
            "    env: [{name: KUBECONFIG, value: /opt/kube/kubeconfig}]\n",
            "    volumeMounts: [{name: kubeconfig, mountPath: /opt/kube}]\n    ", $container, "\n",
            "  volumes:\n  - name: kubeconfig\n    csi:\n      driver: connectors-csi\n      readOnly: true\n      ", $volume,
        )
    };
}
const TWO: &str = pod!("two", "k8s-connector-demo", "default", "", "volumeAttributes:\n        FRAGMENT");
const WITH_PARAMETERS: &str = pod!(
    "with-parameters",
    "k8s-connector-demo",
    "default",
    "",
    "volumeAttributes:\n        connector.name: k8s-connector\n        configuration.names: kubeconfig\n        FRAGMENT"
);
const ELSEWHERE: &str = pod!("elsewhere", "ci", "deployer", "", "FRAGMENT");
const RESTRICTED: &str = pod!(
    "restricted",
    "ci-restricted",
    "deployer",
    "FRAGMENT",
    "volumeAttributes: {connector.name: k8s-connector, connector.namespace: k8s-connector-demo, configuration.names: kubeconfig}"
);

pub async fn followed(cluster: &Cluster) -> Result<()> {
    let env: Vec<(&str, OsString)> = vec![
        ("TARGET_TOKEN", cluster.token.clone().into()),
        ("TARGET_ADDRESS", cluster.address.clone().into()),
    ];
    block("docs/installation.md", INSTALL).context("the page has another command than the quick start")?;
    follow(&QUICK_START, &env).await?;
    // A Pod with curl, and both kubeconfigs.
    let tools = pod(&Row::new("tools", "tools", "", Mount::system()), 0);
    cluster.apply(NAMESPACE, &tools.to_string()).await?;
    cluster.kubectl(&format!("wait --for condition=Ready -n {NAMESPACE} pod/tools --timeout 60s")).await?;
    for page in &PAGES {
        follow(page, &env).await?;
    }
    // Its `sleep` minds no SIGTERM, and would take half a minute.
    cluster.kubectl(&format!("delete pod inspect -n {NAMESPACE} --force --grace-period 0")).await?;
    let clean_up = block(QUICK_START.path, CLEAN_UP)?.text;
    shell(&clean_up, &env).await.context("the last step of the quick start")?;
    Ok(())
}
