//! Whom the users of a connector may speak as.

use crate::target::field;
use crate::world::{SECRET, World, connector};

#[tokio::test]
async fn users_of_a_connector_speak_as_others_only_if_it_says_so() {
    let (world, target) = World::with_target(false).await;
    let ca = "caCertSecretRef: {name: target-ca}";
    let allowing = connector("target", &target.url(), ca, SECRET, &world.target_ca.pem());
    let annotated = "metadata: {namespace: demo, name: target, annotations: {connectors.cpaas.io/allow-impersonation: \"true\"}}\nspec:\n  connectorClassName";
    let allowing =
        allowing.replace("metadata: {namespace: demo, name: target}\nspec:\n  connectorClassName", annotated);
    let url = format!("{}/head", target.url());
    let arguments = ["-H", "Impersonate-User: jane", "-H", "X-Remote-User: admin", url.as_str()];
    for version in ["--http1.1", "--http2"] {
        let refused =
            String::from_utf8(world.curl(&[&[version, "-i"], &arguments[..]].concat()).await).unwrap();
        assert!(refused.lines().any(|line| line.starts_with("HTTP/") && line.contains(" 403")), "{refused}");
        assert!(refused.contains("connectors.cpaas.io/allow-impersonation=true"), "{refused}");
    }
    assert_eq!(target.seen.heads().len(), 0, "nothing was forwarded");
    world.apply(&allowing);
    let seen = String::from_utf8(world.curl(&arguments).await).unwrap();
    assert_eq!(
        (field(&seen, "impersonate-user"), field(&seen, "x-remote-user")),
        (Some("jane"), None),
        "{seen}"
    );
}

#[tokio::test]
async fn a_list_lets_users_speak_as_those_whom_it_names_and_nobody_else() {
    let (world, target) = World::with_target(false).await;
    let list = "user:jane,group:dev,serviceaccount:ci/deployer";
    let ca = "caCertSecretRef: {name: target-ca}";
    let annotated = format!(
        "metadata: {{namespace: demo, name: target, annotations: {{connectors.cpaas.io/allow-impersonation: '{list}'}}}}\nspec:\n  connectorClassName"
    );
    let allowing = connector("target", &target.url(), ca, SECRET, &world.target_ca.pem());
    world.apply(
        &allowing
            .replace("metadata: {namespace: demo, name: target}\nspec:\n  connectorClassName", &annotated),
    );
    let url = format!("{}/head", target.url());
    for (fields, status) in [
        (&[][..], "200"),
        (&["Impersonate-User: jane"], "200"),
        (&["Impersonate-User: jane", "Impersonate-Group: dev"], "200"),
        (&["Impersonate-User: system:serviceaccount:ci:deployer"], "200"),
        (&["Impersonate-User: jane", "Impersonate-Group: dev", "Impersonate-Group: system:masters"], "403"),
        (&["Impersonate-User: dev"], "403"),
        (&["Impersonate-User: Jane"], "403"),
        (&["Impersonate-User: jane", "Impersonate-Uid: 1"], "403"),
        (&["Impersonate-User: jane", "Impersonate-Extra-Scopes: all"], "403"),
        (
            &[
                "Impersonate-User: jane",
                "Connection: Impersonate-User, Impersonate-Group",
                "Impersonate-Group: x",
            ],
            "403",
        ),
    ] {
        let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", *field]).collect();
        let code = ["--output", "/dev/null", "--write-out", "%{http_code}", url.as_str()];
        let found = String::from_utf8(world.curl(&[&fields[..], &code[..]].concat()).await).unwrap();
        assert_eq!(found, status, "{fields:?}");
    }
}
