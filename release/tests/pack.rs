//! release/pack.sh on small programs in place of ours: what it makes is whole, and the same a second time.
//! What `make release` made of the real ones for both kinds of machine is looked at by `released`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use connectors_release::archive;
use connectors_testenv::tool;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const REGISTRY: &str = "registry.example/connectors";
const PARTS: [&str; 3] = ["gateway", "controller", "csi"];
/// 2026-11-28
const TIME: &str = "1795824000";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn target() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let said = said(&output);
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// What is shipped, made twice in different folders.
fn shipped() -> &'static [PathBuf; 2] {
    static SHIPPED: OnceLock<(tempfile::TempDir, [PathBuf; 2])> = OnceLock::new();
    let made = || {
        let place = tempfile::tempdir().unwrap();
        let folders = ["first", "second"].map(|name| pack(&place.path().join(name)));
        (place, folders)
    };
    &SHIPPED.get_or_init(made).1
}

fn pack(place: &Path) -> PathBuf {
    let binaries = place.join("binaries");
    fs::create_dir_all(&binaries).unwrap();
    for part in PARTS {
        fs::copy(env!("CARGO_BIN_EXE_sbom"), binaries.join(format!("connectors-{part}"))).unwrap();
    }
    let destination = place.join("shipped");
    let mut script = Command::new(format!("{FOLDER}/release/pack.sh"));
    script.arg(&destination).arg(format!("{}={}", target(), binaries.display()));
    script.env("HELM", tool("helm").unwrap()).env("KUBECTL", tool("kubectl").unwrap());
    script.env("SBOM", env!("CARGO_BIN_EXE_sbom")).env("STORE", place.join("store"));
    script
        .env("VERSION", VERSION)
        .env("REGISTRY", REGISTRY)
        .env("REVISION", "abc")
        .env("SOURCE_DATE_EPOCH", TIME);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    destination
}

fn read(name: &str) -> String {
    fs::read_to_string(shipped()[0].join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn bill(part: &str) -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    serde_json::from_str(&read(&format!("connectors-{part}-{VERSION}-{architecture}.cdx.json"))).unwrap()
}

fn names(bill: &Value) -> BTreeSet<&str> {
    bill["components"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn the_same_programs_make_the_same_files_in_any_folder() {
    let [first, second] =
        shipped().each_ref().map(|folder| fs::read_to_string(folder.join("SHA256SUMS")).unwrap());
    assert_eq!(first, second);
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&shipped()[0])
        .output();
    let checked = said(&checked.unwrap());
    let files = fs::read_dir(&shipped()[0]).unwrap().count();
    assert_eq!(checked.matches(": OK").count(), files - 1, "each but the list itself: {checked}");
}

#[test]
fn an_image_says_what_it_is_and_holds_its_bill_of_materials() {
    for (part, user) in [("gateway", "65532:65532"), ("controller", "65532:65532"), ("csi", "0:0")] {
        let place = tempfile::tempdir().unwrap();
        let file = shipped()[0].join(format!("connectors-{part}-{VERSION}.tar"));
        let archive = archive::open(&file, place.path()).unwrap();
        assert_eq!(archive.name, format!("docker.io/library/connectors-{part}:{VERSION}"));
        let [image] = &archive.images[..] else { panic!("{} images", archive.images.len()) };
        let config = &image.config["config"];
        let label = |name: &str| {
            config["Labels"][format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default()
        };
        assert_eq!(label("title"), format!("connectors-{part}"));
        assert_eq!([label("version"), label("revision"), label("licenses")], [VERSION, "abc", "Apache-2.0"]);
        assert_eq!(
            [label("created"), image.config["created"].as_str().unwrap()],
            ["2026-11-28T00:00:00Z"; 2]
        );
        assert!(label("description").contains("Connectors"), "{config}");
        assert_eq!(
            [&config["User"], &config["Entrypoint"][0]],
            [&json!(user), &json!(format!("/usr/local/bin/connectors-{part}"))]
        );
        let held = fs::read(image.files.join(format!("usr/share/sbom/connectors-{part}.cdx.json"))).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&held).unwrap(), bill(part));
        assert!(image.files.join("etc/ssl/certs/ca-certificates.crt").exists());
    }
}

#[test]
fn a_bill_of_materials_has_what_is_linked_and_nothing_else() {
    let (gateway, driver) = (bill("gateway"), bill("csi"));
    assert_eq!(gateway["metadata"]["component"]["name"], "connectors-gateway");
    let cases = [
        ("pingora-core", true, false),
        ("connectors-api", true, true),
        ("openssl-sys", true, true),
        ("libssl-dev", true, true),
        ("libc6-dev", true, true),
        ("ca-certificates", true, true),
        ("rust-std", true, true),
        ("tonic", false, true),
        // A macro, a build script's tool, a test's.
        ("clap_derive", false, false),
        ("tonic-prost-build", false, false),
        ("proptest", false, false),
    ];
    for (name, gateway_has, driver_has) in cases {
        assert_eq!(names(&gateway).contains(name), gateway_has, "{name} in the gateway");
        assert_eq!(names(&driver).contains(name), driver_has, "{name} in the driver");
    }
    let registry =
        gateway["components"].as_array().unwrap().iter().filter(|one| one["hashes"].is_array()).count();
    assert!(registry > 100, "{registry} crates with a checksum");
}

#[test]
fn manifests_and_chart_name_the_images_of_this_version_in_the_registry() {
    for name in ["connectors", "connectors-one-node", "connectors-kubernetes-before-1.35"] {
        let text = read(&format!("{name}-{VERSION}.yaml"));
        let images: BTreeSet<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        let wanted = PARTS.map(|part| format!("{REGISTRY}/connectors-{part}:{VERSION}"));
        assert_eq!(images, wanted.iter().map(String::as_str).collect(), "{name}");
    }
    assert_eq!(
        read(&format!("connectors-crds-{VERSION}.yaml")).matches("\nkind: CustomResourceDefinition").count(),
        2
    );
    assert!(read(&format!("connectors-monitoring-{VERSION}.yaml")).contains("kind: PrometheusRule"));
    assert!(read(&format!("connectors-flux-{VERSION}.yaml")).contains("kind: ValidatingAdmissionPolicy"));
    let chart = shipped()[0].join(format!("connectors-{VERSION}.tgz"));
    let rendered =
        Command::new(tool("helm").unwrap()).arg("template").arg("connectors").arg(chart).output().unwrap();
    let rendered = said(&rendered);
    for part in PARTS {
        assert!(
            rendered.contains(&format!("image: {REGISTRY}/connectors-{part}:{VERSION}\n")),
            "{part}: {rendered}"
        );
    }
}

#[test]
fn the_version_is_the_same_wherever_it_is_written() {
    let text = |path: &str| fs::read_to_string(format!("{FOLDER}/{path}")).unwrap();
    let chart = text("charts/connectors/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {VERSION}\nappVersion: {VERSION}\n")), "{chart}");
    for (path, part) in
        [("gateway/deployment", "gateway"), ("controller/deployment", "controller"), ("csi/daemonset", "csi")]
    {
        let manifest = text(&format!("config/{path}.yaml"));
        assert!(manifest.contains(&format!("image: connectors-{part}:{VERSION}\n")), "{path}");
    }
}

/// A repository with what ready.sh looks at, and what it says there to this version.
fn ready(changed: bool, version: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    let here = |name: &str| place.path().join(name);
    fs::create_dir(here("release")).unwrap();
    for name in ["ready.sh", "common.sh"] {
        fs::copy(format!("{FOLDER}/release/{name}"), here("release").join(name)).unwrap();
    }
    fs::write(here("Cargo.toml"), "version = \"1.2.3\"\n").unwrap();
    let author = ["-c", "user.name=me", "-c", "user.email=me@example.com"];
    for words in [
        &["init", "--quiet"][..],
        &["add", "."],
        &[&author[..], &["commit", "--quiet", "-m", "all"]].concat(),
    ] {
        assert!(
            Command::new("git").args(words).current_dir(place.path()).status().unwrap().success(),
            "{words:?}"
        );
    }
    if changed {
        fs::write(here("Cargo.toml"), "version = \"1.2.3\"\n# more\n").unwrap();
    }
    Command::new(here("release/ready.sh")).arg(target()).env("VERSION", version).output().unwrap()
}

#[test]
fn a_release_is_of_a_commit_that_has_its_version() {
    let cases = [
        (false, "1.2.3", None),
        (false, "1.2.4", Some("Cargo.toml says version 1.2.3. Write 1.2.4 there")),
        (true, "1.2.3", Some("there are changes without a commit")),
    ];
    for (changed, version, refusal) in cases {
        let output = ready(changed, version);
        assert_eq!(output.status.success(), refusal.is_none(), "{version}: {}", said(&output));
        assert!(said(&output).contains(refusal.unwrap_or_default()), "{version}: {}", said(&output));
    }
}
