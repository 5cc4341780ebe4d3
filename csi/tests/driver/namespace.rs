//! Mounts of a test must not reach the machine, nor outlive a killed test. A process cannot move its threads
//! into a new mount namespace, so the test binary runs itself again under unshare(1): once, with all tests
//! that were asked for. Each outer test then reports the result that its inner one had.

use std::future::Future;
use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use tokio::runtime::Runtime;

const INSIDE: &str = "CONNECTORS_TEST_MOUNTS_ARE_PRIVATE";

/// One runtime for all tests: clients of the shared cluster live on it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

pub fn isolated(test: impl Future<Output = ()>) {
    match std::env::var_os(INSIDE) {
        Some(_) => RUNTIME.block_on(test),
        None => report(),
    }
}

/// Root of a user namespace may not give files to any group but its own.
pub fn is_real_root() -> bool {
    std::fs::read_to_string("/proc/self/gid_map").unwrap().split_whitespace().nth(2) != Some("1")
}

fn report() {
    static INNER: OnceLock<(bool, String)> = OnceLock::new();
    let (all_passed, output) = INNER.get_or_init(run_inside);
    let thread = std::thread::current();
    // With --test-threads=1 the tests run on the main thread.
    let name = thread.name().filter(|name| *name != "main");
    let passed = name.map_or(*all_passed, |name| {
        output.lines().any(|line| line.starts_with(&format!("test {name} ... ok")))
    });
    assert!(passed, "{}", name.and_then(|name| section(output, name)).unwrap_or(output));
}

/// What one test wrote, from the end of libtest's report.
fn section<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    let (_, section) = output.split_once(&format!("---- {name} stdout ----"))?;
    section.split("\n---- ").next()
}

fn run_inside() -> (bool, String) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let asked = std::env::args()
        .skip(1)
        .filter(|argument| !["--nocapture", "--no-capture", "--show-output"].contains(&argument.as_str()));
    let output = command.arg(std::env::current_exe().unwrap()).args(asked).env(INSIDE, "1").output();
    let output = output.unwrap_or_else(|error| panic!("unshare(1): {error}; install the package util-linux"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}
