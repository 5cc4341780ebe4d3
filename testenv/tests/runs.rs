//! Runs of the binary, as a user starts them, and what they left on the machine.

use std::fmt::{Debug, Formatter};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// No run of a test takes longer, a first build of the tools aside; then a run is asked to end, and ends.
const LONGEST: &str = "1800";

/// How a run ended and what it wrote.
pub struct Ended {
    pub code: i32,
    out: String,
    err: String,
}

impl Debug for Ended {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Ended {
    pub fn says(&self, text: &str) -> bool {
        self.out.contains(text)
    }

    pub fn complains(&self, text: &str) -> bool {
        self.err.contains(text)
    }

    /// The rest of the line on stderr in which `text` stands.
    pub fn after(&self, text: &str) -> String {
        let found = self.err.lines().find_map(|line| Some(line.split_once(text)?.1.to_owned()));
        found.unwrap_or_else(|| panic!("no {text:?} in {self:?}"))
    }
}

/// `testenv <args> -- sh -c <script>`, to its end.
pub fn testenv(args: &[&str], script: &str) -> Ended {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=20", LONGEST, env!("CARGO_BIN_EXE_testenv")])
        .args(args)
        .args(["--", "sh", "-c", script]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A run that is still going on. Its stderr is the test's.
pub struct Run {
    child: Child,
    output: Box<dyn BufRead>,
}

impl Run {
    pub fn start(args: &[&str], script: &str) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testenv"));
        command.args(args).args(["--", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Box::new(BufReader::new(child.stdout.take().unwrap()));
        Run { child, output }
    }

    /// Waits for a line of the script that begins so and returns its rest.
    pub fn line_after(&mut self, start: &str) -> PathBuf {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        PathBuf::from(
            line.trim().strip_prefix(start).unwrap_or_else(|| panic!("the run said {line:?}, not {start:?}")),
        )
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit status; None if a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the run ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code().filter(|_| status.signal().is_none()))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run with this scratch folder left: processes, mounts, control groups, interfaces.
pub fn left_behind(scratch: &Path) -> Vec<String> {
    let run = scratch.file_name().unwrap().to_string_lossy().into_owned();
    let mut found = processes(scratch);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(scratch.to_str().unwrap())).map(str::to_owned));
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let groups = groups.flat_map(|path| [path.join(format!("connectors-testenv-{run}")), path]);
    found.extend(
        groups
            .filter(|path| path.ends_with(format!("connectors-testenv-{run}")))
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    let interfaces = ["node0", "target0", "home0"].map(|name| Path::new("/sys/class/net").join(name));
    found.extend(interfaces.into_iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
    found
}

/// Command lines that name the folder.
pub fn processes(scratch: &Path) -> Vec<String> {
    let scratch = scratch.to_str().unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    let in_folder = |path: &Path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(scratch));
    let line = |path: PathBuf| {
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        (words.contains(scratch) || in_folder(&path)).then_some(words)
    };
    processes.filter_map(|entry| line(entry.path())).collect()
}

/// Looks until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(connectors_testenv::eventually(what, || std::future::ready(so())));
}
