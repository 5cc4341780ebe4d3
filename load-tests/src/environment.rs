//! Where a run took place: without it no figure can be compared.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Options;

/// Names and values, in the order of the report.
pub fn describe(options: &Options) -> Result<Vec<(&'static str, String)>> {
    let haproxy = haproxy(&options.haproxy)?;
    let line = |start: &str| {
        haproxy.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("unknown").trim().to_owned()
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut environment = machine();
    environment.extend([
        ("gateway", format!("{}, {}", options.gateway.display(), openssl_of(&options.gateway)?)),
        ("HAProxy", format!("{}, {}", line("HAProxy version "), line("Running on OpenSSL version :"))),
        ("client, target and bare server", openssl::version::version().to_owned()),
        ("records per request", format!("{:?}", options.records).to_lowercase()),
        ("open files allowed", crate::process::raise_open_files().to_string()),
        ("load before", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]);
    Ok(environment)
}

/// What every measurement has in common.
pub fn machine() -> Vec<(&'static str, String)> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let commit = output("git", &["describe", "--always", "--dirty", "--abbrev=12"])
        .unwrap_or_else(|| "unknown".to_owned());
    vec![
        ("CPU", format!("{cpus} × {}", cpu_model())),
        ("kernel", kernel.trim().to_owned()),
        ("commit", commit),
    ]
}

fn haproxy(program: &Path) -> Result<String> {
    let missing =
        || format!("{} does not run: install Debian's package haproxy, or give --haproxy", program.display());
    let output = Command::new(program).arg("-vv").output().with_context(missing)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        line.strip_prefix("model name").map(|rest| rest.trim_start_matches([' ', '\t', ':']))
    });
    model.unwrap_or("unknown").to_owned()
}

/// The version that a static libcrypto carries: `OpenSSL 3.6.3 9 Jun 2026`.
fn openssl_of(binary: &Path) -> Result<String> {
    let bytes = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
    let found = bytes
        .windows(10)
        .enumerate()
        .filter(|(_, window)| window.starts_with(b"OpenSSL ") && window[8].is_ascii_digit());
    let texts = found.map(|(at, _)| {
        bytes[at..].iter().take(40).take_while(|byte| byte.is_ascii_graphic() || **byte == b' ')
    });
    let versions = texts.map(|text| text.map(|byte| char::from(*byte)).collect::<String>());
    let dated = versions.into_iter().find(|version| version.split(' ').count() == 5);
    Ok(dated.unwrap_or_else(|| "OpenSSL of the system".to_owned()))
}
