//! Settings in a mounted directory, exchanged as kubelet does it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use connectors_gateway::metrics::Metrics;
use connectors_gateway::settings::FILE;
use connectors_gateway::settings::watch::Live;
use connectors_testenv::eventually;

use crate::world::run;

/// A new folder, then the exchange of the `..data` link.
fn mount(directory: &Path, version: &str, yaml: &str) {
    let folder = directory.join(version);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(FILE), yaml).unwrap();
    symlink(version, directory.join("..data_tmp")).unwrap();
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    if !directory.join(FILE).exists() {
        symlink(format!("..data/{FILE}"), directory.join(FILE)).unwrap();
    }
}

#[test]
fn an_edit_is_taken_over_and_a_broken_one_leaves_the_last_good_settings() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        mount(directory.path(), "..1", "timeouts: {connect: 1s}");
        let live = Live::load(directory.path(), true).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let follow = tokio::spawn(live.clone().follow(metrics.clone()));
        let connect = || live.current.load().timeouts.connect;
        assert_eq!(connect(), Duration::from_secs(1));

        mount(directory.path(), "..2", "timeouts: {connect: 2s}");
        eventually("the edit counts", async || connect() == Duration::from_secs(2)).await;

        mount(directory.path(), "..3", "timeouts: {connect: 3s, unheard_of: 1}");
        eventually("the broken one is noticed", async || live.error.load().is_some()).await;
        assert_eq!(connect(), Duration::from_secs(2));
        assert_eq!(metrics.settings_valid.get(), 0);
        let error = live.error.load_full().unwrap();
        assert!(error.contains("unheard_of"), "{error}");

        mount(directory.path(), "..4", "timeouts: {connect: 4s}");
        eventually("the mended one counts", async || connect() == Duration::from_secs(4)).await;
        assert!(live.error.load().is_none());
        assert_eq!(metrics.settings_valid.get(), 1);

        for (version, blank) in [("..5", ""), ("..6", "# timeouts: {connect: 9s}")] {
            mount(directory.path(), version, blank);
            eventually("the blank one is noticed", async || live.error.load().is_some()).await;
            assert_eq!((connect(), metrics.settings_valid.get()), (Duration::from_secs(4), 0));
            mount(directory.path(), &format!("{version}-mended"), "timeouts: {connect: 4s}");
            eventually("the mended one counts", async || live.error.load().is_none()).await;
        }
        std::fs::remove_file(directory.path().join("..data")).unwrap();
        eventually("the missing one is noticed", async || live.error.load().is_some()).await;
        assert_eq!((connect(), metrics.settings_valid.get()), (Duration::from_secs(4), 0));
        follow.abort();
    });
}
