//! Tokens are in the volume's memory and nowhere else: no log line of any library at any level, no file on
//! disk.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::cluster::Demo;
use crate::kubelet::Kubelet;
use crate::namespace::isolated;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;

    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

fn holds(folder: &Path, secret: &str) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        match fs::symlink_metadata(&path).unwrap() {
            metadata if metadata.is_dir() => holds(&path, secret),
            metadata if metadata.is_file() => {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(secret)
            }
            _ => false,
        }
    })
}

#[test]
fn no_token_reaches_a_log_or_the_disk() {
    isolated(async {
        let logs = Captured::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(logs.clone())
            .init();
        let (demo, kubelet) = (Demo::new("secretive").await, Kubelet::start().await);
        let secret = "unmistakable-token-of-this-test";
        let good = kubelet.volume(demo.namespace, "good", secret);
        kubelet.publish(&good).await.unwrap();
        assert!(holds(&kubelet.folder.path().join("pods"), secret), "it is in the volume");
        let bad = kubelet.volume(demo.namespace, "bad", secret).with("connector.name", "nobody");
        let refusal = kubelet.publish(&bad).await.unwrap_err();
        assert!(!format!("{refusal:?}").contains(secret));
        kubelet.unpublish(&good).await.unwrap();
        assert!(!holds(kubelet.folder.path(), secret), "the volume is gone, and it was the only place");

        let logs = logs.text();
        for line in ["published", "publish failed"] {
            let own = |text: &str| text.contains(line) && text.contains("secretive");
            assert!(logs.lines().any(own), "the driver's own lines are captured: {line}");
        }
        assert!(logs.contains("TRACE"), "those of its libraries too");
        assert!(!logs.contains(secret), "{:?}", logs.lines().find(|line| line.contains(secret)));
    });
}
