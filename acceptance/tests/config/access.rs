//! What each ServiceAccount may do, asked by SubjectAccessReview for every resource that the API server
//! knows, and compared with a complete table: a right that is not in the table fails the test as a missing
//! one does.

use std::collections::BTreeSet;

use connectors_testenv::{ControlPlane, eventually};
use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use crate::{folder, install, printed};

const GATEWAY: (&str, &str) = ("connectors-system", "connectors-gateway");
const CONTROLLER: (&str, &str) = ("connectors-system", "connectors-controller");
const CSI: (&str, &str) = ("connectors-csi", "connectors-csi");
/// What an authenticated ServiceAccount without any binding may do is not ours to list.
const NOBODY: (&str, &str) = ("demo", "nobody");

/// An object by name; `*` stands for a name and a namespace that no rule mentions.
struct Place {
    namespace: &'static str,
    name: &'static str,
}

const ANYWHERE: Place = Place { namespace: "demo", name: "some" };
const SYSTEM: Place = Place { namespace: "connectors-system", name: "some" };

/// The class that comes with the product.
const SHIPPED: Place = Place { namespace: "demo", name: "k8s" };

/// Where the API server's own addresses stand.
const API_SERVER: Place = Place { namespace: "default", name: "kubernetes" };

const fn system(name: &'static str) -> Place {
    Place { namespace: "connectors-system", name }
}

/// Every verb that RBAC knows, those of privilege escalation included.
const VERBS: &str = "get list watch create update patch delete deletecollection bind escalate impersonate";
const READ: &str = "get list watch";
const READ_WRITE: &str = "get list watch create patch delete";

/// Resource, verbs, places. What is allowed anywhere is allowed in connectors-system as well.
type Allowed = &'static [(&'static str, &'static str, &'static [Place])];

const GATEWAY_MAY: Allowed = &[
    ("connectors.alauda.io/connectors", READ, &[ANYWHERE, SYSTEM]),
    ("connectors.alauda.io/connectorclasses", READ, &[ANYWHERE, SYSTEM]),
    ("authentication.k8s.io/tokenreviews", "create", &[ANYWHERE, SYSTEM]),
    ("authorization.k8s.io/subjectaccessreviews", "create", &[ANYWHERE, SYSTEM]),
    ("/secrets", READ, &[system("connectors-gateway-ca")]),
    ("/configmaps", READ, &[system("connectors-cluster-ranges")]),
];

const CONTROLLER_MAY: Allowed = &[
    ("connectors.alauda.io/connectors", READ, &[ANYWHERE, SYSTEM]),
    ("connectors.alauda.io/connectorclasses", READ, &[ANYWHERE, SYSTEM]),
    ("connectors.alauda.io/connectorclasses", "create patch", &[SHIPPED, system("k8s")]),
    ("connectors.alauda.io/connectors/status", "patch", &[ANYWHERE, SYSTEM]),
    ("connectors.alauda.io/connectorclasses/status", "patch", &[ANYWHERE, SYSTEM]),
    ("/namespaces", READ, &[ANYWHERE, SYSTEM]),
    ("/services", READ_WRITE, &[ANYWHERE, SYSTEM]),
    ("rbac.authorization.k8s.io/roles", READ_WRITE, &[ANYWHERE, SYSTEM]),
    ("rbac.authorization.k8s.io/rolebindings", READ_WRITE, &[ANYWHERE, SYSTEM]),
    (
        "rbac.authorization.k8s.io/clusterroles",
        "bind",
        &[Place { namespace: "demo", name: "connectors-user" }, system("connectors-user")],
    ),
    ("events.k8s.io/events", "create", &[ANYWHERE, SYSTEM]),
    ("/secrets", READ, &[ANYWHERE]),
    ("/secrets", "get list watch create", &[SYSTEM]),
    ("/secrets", "get list watch create update", &[system("connectors-ca"), system("connectors-gateway-ca")]),
    ("/configmaps", "create", &[SYSTEM]),
    ("/configmaps", "get list watch create update", &[system("connectors-ca-bundle")]),
    ("/configmaps", "get create patch", &[system("connectors-cluster-ranges")]),
    ("/configmaps", "get create", &[system("connectors-classes")]),
    ("/nodes", "list watch", &[ANYWHERE, SYSTEM]),
    ("networking.k8s.io/servicecidrs", "list", &[ANYWHERE, SYSTEM]),
    ("discovery.k8s.io/endpointslices", "get", &[API_SERVER]),
    ("coordination.k8s.io/leases", "create", &[SYSTEM]),
    ("coordination.k8s.io/leases", "get create update", &[system("connectors-controller")]),
];

/// More with `config/rbac/flux`, whose policy leaves the ConfigMaps of Connectors of it: see `flux`.
const CONTROLLER_MAY_WITH_FLUX: Allowed = &[("/configmaps", "get create patch delete", &[ANYWHERE, SYSTEM])];

const CSI_MAY: Allowed = &[
    ("connectors.alauda.io/connectors", "get", &[ANYWHERE, SYSTEM]),
    ("connectors.alauda.io/connectorclasses", "get", &[ANYWHERE, SYSTEM]),
    ("authorization.k8s.io/subjectaccessreviews", "create", &[ANYWHERE, SYSTEM]),
    ("/configmaps", "get", &[system("connectors-ca-bundle")]),
];

/// Names that a rule singles out, in its namespace; every resource is asked for `ANYWHERE` and `SYSTEM` as
/// well.
const SINGLED_OUT: &[(&str, &[Place])] = &[
    ("/secrets", &[system("connectors-ca"), system("connectors-gateway-ca")]),
    (
        "/configmaps",
        &[
            system("connectors-ca-bundle"),
            system("connectors-classes"),
            system("connectors-cluster-ranges"),
            system("connectors-config"),
            system("connectors-gateway"),
        ],
    ),
    ("connectors.alauda.io/connectorclasses", &[SHIPPED, system("k8s")]),
    ("discovery.k8s.io/endpointslices", &[API_SERVER]),
    ("coordination.k8s.io/leases", &[system("connectors-controller")]),
    (
        "rbac.authorization.k8s.io/clusterroles",
        &[system("connectors-user"), Place { namespace: "demo", name: "connectors-user" }],
    ),
];

/// Resources that no API server lists but RBAC may grant.
const UNLISTED: [&str; 5] =
    ["connectors.alauda.io/connectors/proxy", "/users", "/groups", "authentication.k8s.io/userextras", "*/*"];

#[tokio::test]
async fn each_service_account_may_do_exactly_what_the_table_says() {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    let questions = questions(&resources(&cluster).await);
    let always = allowed(&cluster, NOBODY, &questions).await;
    let compare = async |account, expected: BTreeSet<String>| {
        let granted = &allowed(&cluster, account, &questions).await - &always;
        let (surplus, missing) = (&granted - &expected, &expected - &granted);
        if surplus.is_empty() && missing.is_empty() {
            return Ok(());
        }
        Err(format!("{account:?}: not in the table {surplus:#?}, not granted {missing:#?}"))
    };
    for (account, table) in [(GATEWAY, GATEWAY_MAY), (CONTROLLER, CONTROLLER_MAY), (CSI, CSI_MAY)] {
        compare(account, expected(table)).await.unwrap_or_else(|differences| panic!("{differences}"));
    }

    printed(&cluster, &["apply", "-k", &folder("config/rbac/flux")]).await;
    let more = &expected(CONTROLLER_MAY) | &expected(CONTROLLER_MAY_WITH_FLUX);
    eventually("the rights for Flux", async || compare(CONTROLLER, more.clone()).await).await;
}

/// The bare names of a table's rows: `verb resource namespace/name`.
fn expected(table: Allowed) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (resource, verbs, places) in table {
        let singled =
            SINGLED_OUT.iter().filter(|(name, _)| name == resource).flat_map(|(_, named)| named.iter());
        for verb in verbs.split(' ') {
            lines.extend(places.iter().map(|place| line(verb, resource, place)));
            // What holds for any object of a namespace holds for the named ones in it.
            let covered = singled.clone().filter(|named| {
                places.iter().any(|place| place.name == "some" && place.namespace == named.namespace)
            });
            lines.extend(covered.map(|named| line(verb, resource, named)));
        }
    }
    lines
}

fn line(verb: &str, resource: &str, place: &Place) -> String {
    format!("{verb} {resource} {}/{}", place.namespace, place.name)
}

/// `group/resource[/subresource]` of everything that the API server serves, and what it does not list.
async fn resources(cluster: &ControlPlane) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = UNLISTED.iter().map(|name| (*name).to_owned()).collect();
    let client = cluster.client();
    let core = client.list_core_api_resources("v1").await.unwrap();
    found.extend(core.resources.iter().map(|resource| format!("/{}", resource.name)));
    for group in client.list_api_groups().await.unwrap().groups {
        for version in &group.versions {
            let listed = client.list_api_group_resources(&version.group_version).await.unwrap();
            found.extend(listed.resources.iter().map(|resource| format!("{}/{}", group.name, resource.name)));
        }
    }
    assert!(
        found.contains("connectors.alauda.io/connectors/status") && found.contains("/serviceaccounts/token"),
        "{found:?}"
    );
    found
}

fn questions(resources: &BTreeSet<String>) -> Vec<(String, String, &'static Place)> {
    let mut all = Vec::new();
    for resource in resources {
        let singled =
            SINGLED_OUT.iter().filter(|(name, _)| name == resource).flat_map(|(_, named)| named.iter());
        for place in [&ANYWHERE, &SYSTEM].into_iter().chain(singled) {
            all.extend(VERBS.split(' ').map(|verb| (verb.to_owned(), resource.clone(), place)));
        }
    }
    all
}

async fn allowed(
    cluster: &ControlPlane,
    account: (&str, &str),
    questions: &[(String, String, &'static Place)],
) -> BTreeSet<String> {
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    let answers = stream::iter(questions).map(|(verb, resource, place)| {
        let reviews = reviews.clone();
        async move {
            let review = reviews
                .create(&PostParams::default(), &review(account, verb, resource, place))
                .await
                .unwrap();
            review.status.unwrap().allowed.then(|| line(verb, resource, place))
        }
    });
    answers.buffer_unordered(16).filter_map(|answer| async { answer }).collect().await
}

fn review((namespace, name): (&str, &str), verb: &str, resource: &str, place: &Place) -> SubjectAccessReview {
    let mut parts = resource.splitn(3, '/').map(str::to_owned);
    let attributes = ResourceAttributes {
        group: parts.next(),
        resource: parts.next(),
        subresource: parts.next(),
        verb: Some(verb.to_owned()),
        namespace: Some(place.namespace.to_owned()),
        name: Some(place.name.to_owned()),
        ..ResourceAttributes::default()
    };
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{name}")),
            groups: Some(groups.map(str::to_owned).to_vec()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[tokio::test]
async fn users_roles_tell_seeing_describing_and_using_apart() {
    let cluster = ControlPlane::start().await.unwrap();
    install(&cluster).await;
    printed(&cluster, &["create", "namespace", "demo"]).await;
    for role in ["connectors-view", "connectors-edit", "connectors-user"] {
        printed(
            &cluster,
            &["create", "rolebinding", role, "-n", "demo", "--clusterrole", role, "--user", role],
        )
        .await;
    }
    let cases = [
        ("connectors-view", "list", "connectors", true),
        ("connectors-view", "*", "connectors/proxy", false),
        ("connectors-view", "create", "connectors", false),
        ("connectors-edit", "patch", "connectors", true),
        ("connectors-edit", "*", "connectors/proxy", false),
        ("connectors-edit", "patch", "connectors/status", false),
        ("connectors-user", "get", "connectors", true),
        ("connectors-user", "*", "connectors/proxy", true),
        ("connectors-user", "list", "connectors", false),
    ];
    for (user, verb, resource, allowed) in cases {
        let (kind, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let kind = format!("{kind}.connectors.alauda.io");
        let answer = cluster
            .kubectl(&[
                "auth",
                "can-i",
                verb,
                &kind,
                "--subresource",
                subresource,
                "-n",
                "demo",
                "--as",
                user,
            ])
            .await
            .unwrap();
        assert_eq!(answer.status.success(), allowed, "{user} {verb} {resource}");
    }
}
