//! What `make release` made, as those get it who install it: whole, for both kinds of machine, linked with
//! what the bill of materials says, and started beside a real API server; what is for the other kind of
//! machine under qemu.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use connectors_release::archive::{self, Image};
use connectors_testenv::{ControlPlane, eventually};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const PARTS: [&str; 3] = ["gateway", "controller", "csi"];
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

fn shipped() -> PathBuf {
    std::env::var_os("CONNECTORS_SHIPPED")
        .expect("CONNECTORS_SHIPPED is the folder that `make release` made; it runs this test")
        .into()
}

fn images(part: &str, place: &Path) -> Vec<Image> {
    archive::open(&shipped().join(format!("connectors-{part}-{VERSION}.tar")), &place.join(part))
        .unwrap()
        .images
}

fn binary(image: &Image, part: &str) -> PathBuf {
    image.files.join(format!("usr/local/bin/connectors-{part}"))
}

/// A program for this kind of machine or the other.
fn program(architecture: &str, binary: &Path) -> Command {
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    if architecture == own {
        return Command::new(binary);
    }
    let mut emulator = Command::new(match architecture {
        "arm64" => "qemu-aarch64-static",
        _ => "qemu-x86_64-static",
    });
    emulator.arg(binary);
    emulator
}

/// The version of one of Debian's packages by its source, as the bill of materials in the image says.
fn version(image: &Image, part: &str, source: &str) -> String {
    let bill =
        fs::read_to_string(image.files.join(format!("usr/share/sbom/connectors-{part}.cdx.json"))).unwrap();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    let end = format!("&upstream={source}");
    let mut components = bill["components"].as_array().unwrap().iter();
    let found = components.find(|one| one["purl"].as_str().is_some_and(|url| url.ends_with(&end)));
    found.unwrap_or_else(|| panic!("nothing of {source}"))["version"].as_str().unwrap().to_owned()
}

#[test]
fn checksums_fit_and_each_archive_is_for_both_kinds_of_machine() {
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(shipped())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    for part in PARTS {
        let place = tempfile::tempdir().unwrap();
        let images = images(part, place.path());
        let found: Vec<&str> = images.iter().map(|image| image.architecture.as_str()).collect();
        assert_eq!(found, ARCHITECTURES, "{part}");
        for image in &images {
            assert_eq!(image.config["architecture"].as_str(), Some(image.architecture.as_str()));
        }
    }
}

#[test]
fn binaries_start_and_hold_the_libraries_that_their_bill_of_materials_names() {
    for part in PARTS {
        let place = tempfile::tempdir().unwrap();
        for image in images(part, place.path()) {
            let (binary, what) = (binary(&image, part), format!("{part} for {}", image.architecture));
            let output = program(&image.architecture, &binary).arg("--version").output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let openssl = version(&image, part, "openssl");
            let openssl = openssl.split('-').next().unwrap();
            let both = said.contains(VERSION) && said.contains(&format!("OpenSSL {openssl} "));
            let advice = "if OpenSSL was updated meanwhile: cargo clean --release --package openssl-sys";
            assert!(both, "{what} says {said:?}, not {VERSION} and OpenSSL {openssl}: {advice}");
            let libc = format!("Debian GLIBC {})", version(&image, part, "glibc"));
            let bytes = fs::read(&binary).unwrap();
            assert!(
                bytes.windows(libc.len()).any(|window| window == libc.as_bytes()),
                "{what} has no {libc:?}"
            );
            let home = std::env::var("HOME").unwrap() + "/.cargo";
            assert!(
                !bytes.windows(home.len()).any(|window| window == home.as_bytes()),
                "{what} names {home}"
            );
        }
    }
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(architecture: &str, part: &str, place: &Path, plane: &ControlPlane, arguments: &[&str]) -> Started {
    let images = images(part, place);
    let image = images.iter().find(|image| image.architecture == architecture).unwrap();
    let log = fs::File::create(place.join(format!("{part}.log"))).unwrap();
    let mut command = program(architecture, &binary(image, part));
    command
        .args(arguments)
        .env("KUBECONFIG", plane.kubeconfig())
        .env("SSL_CERT_FILE", image.files.join("etc/ssl/certs/ca-certificates.crt"));
    Started(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn succeeds(command: &mut Command, place: &Path, part: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let log = fs::read_to_string(place.join(format!("{part}.log"))).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{}: {last:?}", String::from_utf8_lossy(&output.stdout)))
}

async fn answers(address: &str, place: &Path, part: &str) -> Result<(), String> {
    let address = format!("http://{address}/readyz");
    succeeds(
        Command::new("curl").args(["--silent", "--fail-with-body", "--max-time", "5", &address]),
        place,
        part,
    )
    .await
}

/// The controller makes the authority without which the gateway is not ready; the driver answers on its
/// socket.
#[tokio::test]
async fn all_parts_work_together_for_either_kind_of_machine() {
    for architecture in ARCHITECTURES {
        let plane = ControlPlane::with_crds().await.unwrap();
        let applied = plane.kubectl(&["apply", "-k", &format!("{FOLDER}/config/default")]).await.unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let place = tempfile::tempdir().unwrap();
        let here = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let (admin, gateway) = (free_address(), free_address());
        // The gateway's port for probes is not reached here: any token will do.
        fs::write(here("token"), "token").unwrap();
        let token = format!("--gateway-token-file={}", here("token"));
        let address = format!("--admin-address={admin}");
        let _controller = start(architecture, "controller", place.path(), &plane, &[&token, &address]);
        let listeners =
            ["http", "https", "probe", "health"].map(|name| format!("{name}: '127.0.0.1:0'")).join(", ");
        let listeners = format!("{{{listeners}, admin: '{gateway}'}}");
        fs::write(here("gateway.yaml"), format!("threads: 1\nlisteners: {listeners}\n")).unwrap();
        let _gateway = start(architecture, "gateway", place.path(), &plane, &["--settings-dir", &here("")]);
        let socket = format!("--csi-socket={}", here("csi.sock"));
        let registration = format!("--registration-dir={}", here("registration"));
        fs::create_dir(here("registration")).unwrap();
        let _driver =
            start(architecture, "csi", place.path(), &plane, &["--node-name=node", &registration, &socket]);

        let what = |part: &str| format!("the {part} for {architecture} is ready");
        eventually(&what("controller"), async || answers(&admin, place.path(), "controller").await).await;
        eventually(&what("gateway"), async || answers(&gateway, place.path(), "gateway").await).await;
        let driver = place.path().join("csi").join(architecture).join("usr/local/bin/connectors-csi");
        let healthy = async || {
            let mut healthcheck = program(architecture, &driver);
            succeeds(healthcheck.args(["healthcheck", &socket]), place.path(), "csi").await
        };
        eventually(&what("driver"), healthy).await;
    }
}
