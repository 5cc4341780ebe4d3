//! Interfaces and routes inside the private network namespaces; they vanish with them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::layout::{LINK, Layout};

/// The node's own address on a bridge, and a default route: kubelet and kube-proxy look for one.
pub(crate) fn set_up(layout: &Layout) -> Result<()> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the namespace forward packets")?;
    let (node, gateway) = (layout.node(), layout.gateway());
    ip(&format!(
        "link set lo up\n\
         link add node0 type bridge\n\
         addr add {node}/24 dev node0\n\
         link set node0 up\n\
         route add default via {gateway} dev node0\n"
    ))
}

/// Lays a cable from home, whose namespace we are in, to the target's namespace, which `process` is in.
pub(crate) fn join(process: u32) -> Result<()> {
    let (home_end, target_end, target) = (LINK[0], LINK[1], Layout::TARGET.all());
    ip(&format!(
        "link add target0 type veth peer name home0 netns {process}\n\
         addr add {home_end}/30 dev target0\n\
         link set target0 up\n\
         route add {target} via {target_end}\n"
    ))
}

/// The target's part: waits for its end of the cable, then answers home's addresses through it.
pub(crate) fn wait_for_link() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !quiet(&["link", "show", "dev", "home0"]) {
        if Instant::now() > deadline {
            bail!("the link to the home cluster did not appear");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (home_end, target_end, home) = (LINK[0], LINK[1], Layout::HOME.all());
    ip(&format!("addr add {target_end}/30 dev home0\nlink set home0 up\nroute add {home} via {home_end}\n"))
}

fn quiet(args: &[&str]) -> bool {
    Command::new("ip")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn ip(batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "set up the network: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
