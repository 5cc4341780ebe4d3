//! One client-go process, over each kubeconfig, that outlives three tokens while it watches, lists and runs
//! commands. Its login of the proxy's URL stays the first one for ever, as client-go parses it once.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use connectors_testenv::{signed_again, signing_key, tool};
use openssl::pkey::{PKey, Private};
use serde_json::json;
use tokio::time::{Instant, sleep};

use connectors_acceptance::cluster::Cluster;
use connectors_acceptance::matrix::{Flavour, Mount, Row, pod};

const NAMESPACE: &str = "tokens";
const WATCHED: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: watched}, data: {value: '1'}}";
/// client-go keeps what it has read of a token file for 50 s. Tests of the gateway itself have tokens of
/// seconds.
const LIFE: Duration = Duration::from_secs(60);
const RENEWED: Duration = Duration::from_secs(2);
const LIVES: u32 = 3;
/// A round is a pause of 2 s, a list and a command; half of what a machine with time would do.
const ROUNDS: u64 = LIFE.as_secs() * LIVES as u64 / 2 / 2;
/// From the last change to the end of the programs.
const SEEN: Duration = Duration::from_secs(30);

pub async fn outlived_by_a_client(cluster: &Cluster) -> Result<()> {
    cluster.own_connector(NAMESPACE).await?;
    cluster.apply(NAMESPACE, WATCHED).await?;
    let folder = tempfile::tempdir()?;
    let mounts = vec![Mount::new(tool("client-go")?, "/tools/client-go"), Mount::new(folder.path(), "/aged")];
    let row = Row::new("client", "client-go", "/tools/client-go", mounts);
    cluster.apply(NAMESPACE, &pod(&row, 0).to_string()).await?;
    cluster.kubectl(&format!("wait --for condition=Ready -n {NAMESPACE} pod/client --timeout 90s")).await?;

    let own = cluster.exec(NAMESPACE, "client", "cat /opt/kube/context.token").await?;
    let short =
        Short { own, key: signing_key(Path::new(&std::env::var_os("KUBECONFIG").context("KUBECONFIG")?))? };
    let first = short.token()?;
    for flavour in Flavour::ALL {
        let mounted = cluster.exec(NAMESPACE, "client", &format!("cat /opt/kube/{}", flavour.file())).await?;
        std::fs::write(folder.path().join(flavour.file()), mounted.replace(&short.own, &first))?;
    }
    let aged = std::fs::read_to_string(folder.path().join(Flavour::Proxy.file()))?;
    ensure!(
        aged.contains(&format!("k8s-connector:{first}@")),
        "the login of {} is not the short one",
        Flavour::Proxy.file()
    );

    let renewed = async {
        loop {
            short.write(folder.path())?;
            sleep(RENEWED).await;
        }
    };
    tokio::select! {
        biased;
        never = renewed => never,
        end = processes(cluster) => end,
    }?;
    // And those tokens have ended: who begins with the first of them now is refused.
    std::fs::write(folder.path().join("context.token"), &first)?;
    for flavour in Flavour::ALL {
        let line = format!("NAMESPACE={NAMESPACE} /tools/client-go /aged/{} list none", flavour.file());
        let error = cluster.exec(NAMESPACE, "client", &line).await.err().map(|error| format!("{error:#}"));
        ensure!(error.as_ref().is_some_and(|said| said.contains("expired")), "{}: {error:?}", flavour.file());
    }
    Ok(())
}

/// Tokens of the Pod with little time.
struct Short {
    own: String,
    key: PKey<Private>,
}

impl Short {
    fn token(&self) -> Result<String> {
        let end = (SystemTime::now() + LIFE).duration_since(UNIX_EPOCH)?.as_secs();
        signed_again(&self.own, &self.key, |claims| claims["exp"] = json!(end))
    }

    /// At once, as kubelet would.
    fn write(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("next"), self.token()?)?;
        Ok(std::fs::rename(folder.join("next"), folder.join("context.token"))?)
    }
}

/// Both run until the watched object changes, long after the third token has ended.
async fn processes(cluster: &Cluster) -> Result<()> {
    let until = Instant::now() + LIFE * LIVES + RENEWED;
    let runs = Flavour::ALL.map(|flavour| process(cluster, flavour));
    let change = async {
        tokio::time::sleep_until(until).await;
        cluster
            .kubectl(&format!(
                "patch configmap watched -n {NAMESPACE} --patch {{\"data\":{{\"value\":\"2\"}}}}"
            ))
            .await?;
        sleep(SEEN).await;
        bail!("no end {} s after the change", SEEN.as_secs())
    };
    let [proxy, reverse] = runs;
    tokio::select! {
        ended = async { tokio::try_join!(proxy, reverse) } => {
            ensure!(Instant::now() > until, "they ended before their tokens did");
            ended.map(drop)
        }
        late = change => late,
    }
}

async fn process(cluster: &Cluster, flavour: Flavour) -> Result<()> {
    let line =
        format!("NAMESPACE={NAMESPACE} POD=client /tools/client-go /aged/{} outlive none", flavour.file());
    let mut command = cluster.exec_command(NAMESPACE, "client", &line);
    let Output { status, stdout, stderr } = command.output().await?;
    let (said, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success(), "{}: {said}{errors}", flavour.file());
    let answer = said.lines().last().unwrap_or_default();
    let rounds =
        answer.strip_suffix(" rounds, then changed to 2").and_then(|rounds| rounds.parse::<u64>().ok());
    ensure!(rounds.is_some_and(|rounds| rounds >= ROUNDS), "{}: {said}{errors}", flavour.file());
    Ok(())
}
