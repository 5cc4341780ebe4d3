//! The gateway's settings as an operator's ConfigMap might hold them: none that is read breaks a rule of its
//! own, and a blank file is never one that allows.

use std::cell::OnceCell;
use std::fs;

use connectors_gateway::settings::Settings;
use tempfile::TempDir;

use super::text;
use crate::Target;

pub const TARGET: Target = Target {
    name: "settings",
    run,
    words: &[
        "timeouts:\n  head: ",
        "30s",
        "limits:\n  connections: ",
        "targets:\n  deny: [\"10.0.0.0/8\"]\n",
        "targets:\n  allow:\n  - ",
        "in_cluster: observe\n",
        "listeners:\n  http: ",
        "\"[::]:80\"\n",
        "{}",
        "null",
        "- ",
        ": ",
        "\n",
        "&a ",
        "*a",
        "!!int ",
        "upstream:\n  plaintext: deny\n",
        "1e99",
        "-1",
        "threads: 0\n",
    ],
};

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

fn run(data: &[u8]) {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().unwrap()).path();
        fs::write(folder.join("gateway.yaml"), data).unwrap();
        let Ok(settings) = Settings::load(folder, true) else { return };
        assert!(text(data).is_some_and(|text| !text.trim().is_empty()), "a blank file allows");
        assert!(!settings.timeouts.head.is_zero() && settings.limits.connections > 0);
        assert!(settings.worker_threads() > 0);
    });
}
