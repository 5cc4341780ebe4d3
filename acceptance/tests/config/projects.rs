//! Who decides who may use a connector: the labels of projects, and an admin's own binding.

use connectors_testenv::{ControlPlane, eventually};
use serde_json::{Value, json};

use crate::{install, printed};

/// `lead` and `manager` may edit namespaces; `manager` manages projects, too. `owner` is an admin of `demo`.
async fn prepared() -> ControlPlane {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    for namespace in ["demo", "other"] {
        printed(&cluster, &["create", "namespace", namespace]).await;
    }
    let all = "--resource=namespaces,namespaces/status,namespaces/finalize";
    printed(&cluster, &["create", "clusterrole", "namespaces", "--verb=get,create,update,patch", all]).await;
    for (name, role, user) in [
        ("lead", "namespaces", "lead"),
        ("manager", "namespaces", "manager"),
        ("projects", "connectors-project-admin", "manager"),
    ] {
        let bind = ["create", "clusterrolebinding", name, "--clusterrole", role, "--user", user];
        printed(&cluster, &bind).await;
    }
    let rights = ["--verb=create,get", "--resource=rolebindings"];
    printed(&cluster, &[&["create", "clusterrole", "bindings"], &rights[..]].concat()).await;
    for role in ["bindings", "connectors-admin"] {
        let bind = ["create", "rolebinding", role, "-n", "demo", "--clusterrole", role, "--user", "owner"];
        printed(&cluster, &bind).await;
    }
    cluster
}

const PROJECT_I: &str = r#"{"metadata": {"labels": {"cpaas.io/project": "i"}}}"#;

/// Nothing if it is allowed.
async fn refusal(cluster: &ControlPlane, user: &str, arguments: &[&str]) -> Option<String> {
    let output = cluster.kubectl(&[arguments, &["--as", user]].concat()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(said)
}

#[tokio::test]
async fn who_may_bind_no_connectors_may_not_say_which_namespaces_belong_to_a_project() {
    let cluster = prepared().await;
    let words = "Ask for ClusterRole connectors-project-admin";
    // The API server compiles a new policy a moment after it was stored.
    eventually("the policy is in force", async || {
        refusal(&cluster, "lead", &["label", "ns", "other", "cpaas.io/project=g", "--overwrite"])
            .await
            .is_some_and(|said| said.contains(words))
    })
    .await;
    printed(&cluster, &["label", "ns", "other", "cpaas.io/project-", "cpaas.io/inner-namespace-"]).await;
    printed(&cluster, &["label", "ns", "demo", "cpaas.io/project=g", "--overwrite"]).await;
    for (case, arguments, decides) in [
        ("set", &["label", "ns", "other", "cpaas.io/inner-namespace=g"][..], true),
        ("change", &["label", "ns", "demo", "cpaas.io/project=h", "--overwrite"], true),
        ("another label", &["label", "ns", "demo", "team=a", "--overwrite"], false),
        ("annotation", &["annotate", "ns", "demo", "note=a", "--overwrite"], false),
        ("a namespace without", &["create", "ns", "new", "--dry-run=server"], false),
        ("status", &["patch", "ns", "demo", "--subresource=status", "--type=merge", "-p", PROJECT_I], true),
        ("remove", &["label", "ns", "demo", "cpaas.io/project-"], true),
    ] {
        let said = refusal(&cluster, "lead", arguments).await;
        assert_eq!(said.is_some(), decides, "{case}: {said:?}");
        assert!(said.is_none_or(|said| said.contains(words)), "{case}");
        assert_eq!(refusal(&cluster, "manager", arguments).await, None, "{case}");
    }
    let labelled = "{apiVersion: v1, kind: Namespace, metadata: {name: mine, labels: {cpaas.io/project: g}}}";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), labelled).unwrap();
    let create = ["create", "-f", file.path().to_str().unwrap()];
    assert!(refusal(&cluster, "lead", &create).await.unwrap().contains(words));
    assert_eq!(refusal(&cluster, "manager", &create).await, None);
}

/// The namespace as it is, edited, to where only its finalizers are to be changed.
async fn finalize(cluster: &ControlPlane, user: &str, edit: impl Fn(&mut Value)) -> Option<String> {
    let found = printed(cluster, &["get", "ns", "demo", "-o", "json"]).await;
    let mut namespace = serde_json::from_str(&found).unwrap();
    edit(&mut namespace);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), namespace.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    refusal(cluster, user, &["replace", "--raw", "/api/v1/namespaces/demo/finalize", "-f", path]).await
}

#[tokio::test]
async fn the_way_by_which_namespaces_end_ends_them_and_changes_no_project() {
    let cluster = prepared().await;
    let join = |namespace: &mut Value| namespace["metadata"]["labels"]["cpaas.io/project"] = json!("g");
    eventually("the policy is in force", async || {
        finalize(&cluster, "lead", join).await.is_some_and(|said| said.contains("connectors-project-admin"))
    })
    .await;
    assert_eq!(finalize(&cluster, "manager", join).await, None);
    printed(&cluster, &["delete", "ns", "demo", "--wait=false"]).await;
    let controller = "system:serviceaccount:kube-system:namespace-controller";
    let end = |namespace: &mut Value| namespace["spec"]["finalizers"] = json!([]);
    assert_eq!(finalize(&cluster, controller, end).await, None);
    assert!(refusal(&cluster, "manager", &["get", "ns", "demo"]).await.unwrap().contains("not found"));
}

#[tokio::test]
async fn an_admin_of_a_namespace_shares_its_connectors_and_no_others() {
    let cluster = prepared().await;
    let bind = |namespace| {
        [
            "create",
            "rolebinding",
            "use",
            "--clusterrole",
            "connectors-user",
            "--user",
            "jane",
            "-n",
            namespace,
        ]
    };
    assert_eq!(refusal(&cluster, "owner", &bind("demo")).await, None);
    assert!(refusal(&cluster, "owner", &bind("other")).await.is_some());
    assert!(refusal(&cluster, "lead", &bind("demo")).await.is_some());
}
