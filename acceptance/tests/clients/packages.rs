//! The clients whose packages come from elsewhere, and how each is run in its Pod: its interpreter is this
//! machine's, or a package too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use connectors_testenv::{Step, packages, tool};

use connectors_acceptance::matrix::{Cannot, Flavour, Mount, Operation, Row};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
const PLAIN: &[Operation] = &[Operation::Plain];

pub fn old_kubectl() -> Result<Row> {
    let program = "KUBECTL=/tools/kubectl sh /clients/kubectl/client.sh";
    Ok(Row::new("kubectl-old", "kubectl", program, vec![Mount::new(tool("kubectl-1.30")?, "/tools/kubectl")]))
}

pub fn helm() -> Result<Row> {
    let mut row = Row::new(
        "helm",
        "helm",
        "HELM=/tools/helm sh /clients/helm/client.sh",
        vec![Mount::new(tool("helm")?, "/tools/helm")],
    );
    row.watched = "waited for the Pod";
    row.cannot.push(Cannot {
        flavour: None,
        operations: &[Operation::Logs, Operation::Exec, Operation::Copy, Operation::Forward],
        says: "unknown command",
        because: "helm has no such command",
    });
    Ok(row)
}

pub fn kube_rs() -> Result<Row> {
    let mounts =
        [Mount::system(), vec![Mount::new(env!("CARGO_BIN_EXE_kube-rs-client"), "/tools/kube-rs")]].concat();
    let mut row = Row::new("kube-rs", "kube-rs", "/tools/kube-rs", mounts);
    row.note = Some(
        "kube-rs asks the API server to end a watch after 290 s; its `watcher` watches again by itself.",
    );
    Ok(row)
}

pub fn python() -> Result<Row> {
    let prefix = said("python3", &["-c", "import sys; print(sys.base_prefix)"])?;
    let version = said("python3", &["--version"])?;
    let lock = include_str!("../../clients/python/requirements.txt");
    let folder = packages("python", &[lock, &version, &prefix], |folder| {
        let install = ["python3", "-m", "pip", "install", "--no-deps", "--target"];
        vec![step(
            &install,
            [folder.join("lib").into(), "--requirement".into(), file("python/requirements.txt")],
        )]
    })?;
    let program = format!(
        "PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1 {prefix}/bin/python3 /clients/python/client.py"
    );
    let mounts =
        [Mount::system(), outside_of_usr(&prefix), vec![Mount::new(folder.join("lib"), "/packages")]]
            .concat();
    let mut row = Row::new("python", "Python `kubernetes`", program, mounts);
    row.cannot.push(Cannot {
        flavour: Some(Flavour::Proxy),
        operations: PLAIN,
        says: "407 Proxy Authentication Required",
        because: "it goes to `proxy-url` but leaves out the login that stands in it, and its streams want a port there; \
                  `configuration.proxy` with `:80` and `proxy_headers = urllib3.make_headers(proxy_basic_auth=…)` help, and then the rest works",
    });
    row.note = Some(
        "Python reads `tokenFile` once: a process that lives longer than the token (30 minutes) must load the kubeconfig again. Its \
         time for a large answer of `exec` grows with the square of the size, and a slow reader loses the end, without a gateway too: \
         the test fetches pieces of 4 MiB.",
    );
    Ok(row)
}

/// The packages bring their own Node.js: the client needs a newer one than Debian has.
pub fn javascript(idle: u64) -> Result<Row> {
    let lock = include_str!("../../clients/javascript/package-lock.json");
    let folder = packages("javascript", &[lock], |folder| {
        let files =
            ["package.json", "package-lock.json", ".npmrc"].map(|name| file(&format!("javascript/{name}")));
        let [manifest, lock, settings] = files;
        vec![
            step(&["cp"], [manifest, lock, settings, folder.into()]),
            step(&["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], []),
        ]
    })?;
    let mounts = [Mount::system(), vec![Mount::new(folder.join("node_modules"), "/node_modules")]].concat();
    let program = "/node_modules/node-linux-*/bin/node /clients/javascript/client.mjs";
    let mut row = Row::new("javascript", "JavaScript `@kubernetes/client-node`", program, mounts);
    row.cannot.push(Cannot {
        flavour: Some(Flavour::Reverse),
        operations: PLAIN,
        says: "401",
        because: "it does not read a user's `tokenFile`; `user.authProvider = { name: 'tokenFile', config: { tokenFile: … } }` makes it \
                  read the file again every minute, and then the rest works",
    });
    if idle >= 300 {
        row.cannot.push(Cannot {
            flavour: None,
            operations: &[Operation::Watch],
            says: "UND_ERR_BODY_TIMEOUT",
            because: "its HTTP library ends an answer from which nothing has come for five minutes",
        });
    }
    row.note = Some(
        "JavaScript's watch ends after 30 s without an event unless `watch.requestTimeoutMs` is raised, and after five minutes whatever \
         it is: watch again then, as its informers do.",
    );
    Ok(row)
}

pub fn fabric8() -> Result<Row> {
    let home = java_home()?;
    let state = [
        include_str!("../../clients/fabric8/pom.xml"),
        include_str!("../../clients/fabric8/Client.java"),
        &home,
    ];
    let folder = packages("java", &state, |folder| {
        let (lib, classes) = (folder.join("lib"), folder.join("classes"));
        let to = [OsString::from("-DoutputDirectory="), lib.clone().into()].into_iter().collect();
        vec![
            step(
                &["mvn", "-q", "-B", "-f"],
                [file("fabric8/pom.xml"), "dependency:copy-dependencies".into(), to],
            ),
            step(
                &["javac", "-cp"],
                [lib.join("*").into(), "-d".into(), classes.into(), file("fabric8/Client.java")],
            ),
        ]
    })?;
    let mounts = [Mount::system(), settings_of_java()?, vec![Mount::new(folder, "/packages")]].concat();
    // A short run is not worth the second compiler, nor more than one thread that collects.
    let program = format!(
        "{home}/bin/java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '/packages/lib/*:/packages/classes' Client"
    );
    let mut row = Row::new("fabric8", "Java `fabric8`", program, mounts);
    row.cannot.push(Cannot {
        flavour: Some(Flavour::Proxy),
        operations: PLAIN,
        says: "PKIX path building failed",
        because: "it takes a `proxy-url` of scheme `http` for `http` servers only, goes to the target directly and, rightly, does not \
                  trust it; `setHttpsProxy` with port 80, `setProxyUsername` and `setProxyPassword` help, and then the rest works",
    });
    row.cannot.push(Cannot {
        flavour: Some(Flavour::Reverse),
        operations: PLAIN,
        says: "401",
        because: "it does not read a user's `tokenFile`; `config.setOauthTokenProvider(…)` with that file helps, and then the rest works",
    });
    row.note = Some(
        "fabric8's port-forward: on a busy machine now and then nothing comes on a connection, without a gateway too; the test opens \
         another after 10 s.",
    );
    Ok(row)
}

fn java_home() -> Result<String> {
    let output =
        Command::new("java").args(["-XshowSettings:properties", "-version"]).output().context("run java")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let home = text.lines().find_map(|line| line.trim().strip_prefix("java.home = "));
    Ok(home.context("java tells java.home")?.to_owned())
}

/// Debian's Java has links to there.
fn settings_of_java() -> Result<Vec<Mount>> {
    let all = std::fs::read_dir("/etc")?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("java"));
    Ok(all.filter_map(|entry| Mount::same(entry.path())).collect())
}

fn outside_of_usr(folder: &str) -> Vec<Mount> {
    if Path::new(folder).starts_with("/usr") { Vec::new() } else { Mount::same(folder).into_iter().collect() }
}

fn file(name: &str) -> OsString {
    PathBuf::from(FOLDER).join(name).into()
}

fn step<const N: usize>(words: &[&str], more: [OsString; N]) -> Step {
    words.iter().map(OsString::from).chain(more).collect()
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
