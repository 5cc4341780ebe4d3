//! The Go tools: built on demand from the pinned modules in `tools/` and `tools-k6/` into a cache folder outside of the
//! checkout, one build at a time, never twice for the same go.mod, go.sum, flags and Go version.

mod build;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// One go.mod with everything that must run together; k6 has its own, because its dependencies would move the others'.
struct Module {
    go_mod: &'static str,
    go_sum: &'static str,
}

static KUBERNETES: Module = Module { go_mod: include_str!("../tools/go.mod"), go_sum: include_str!("../tools/go.sum") };
static K6: Module = Module { go_mod: include_str!("../tools-k6/go.mod"), go_sum: include_str!("../tools-k6/go.sum") };

/// A binary, the package it is built from, and its module.
struct Tool {
    name: &'static str,
    package: &'static str,
    module: &'static Module,
    /// runc alone links C (libseccomp); everything else is static.
    cgo: bool,
}

const fn go(name: &'static str, package: &'static str) -> Tool {
    Tool { name, package, module: &KUBERNETES, cgo: false }
}

/// In the order in which they are best built: the slowest first, what a control plane needs before what a node needs.
static TOOLS: [Tool; 18] = [
    go("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    go("etcd", "go.etcd.io/etcd/server/v3"),
    go("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    go("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    go("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    go("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    go("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    go("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    go("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    go("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    Tool { cgo: true, ..go("runc", "github.com/opencontainers/runc") },
    go("coredns", "github.com/coredns/coredns"),
    go("ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
    go("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
    go("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    go("csi-sanity", "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"),
    go("h2spec", "github.com/summerwind/h2spec/cmd/h2spec"),
    Tool { module: &K6, ..go("k6", "go.k6.io/k6") },
];

/// The path of a tool (`kubectl`, `csi-sanity`, `h2spec`, …), built first if this machine does not have it yet.
///
/// Building takes seconds to minutes, reports on stderr, and needs Go and a module proxy or cache.
pub fn tool(name: &str) -> Result<PathBuf> {
    tools(&[name])?.pop().context("one tool was asked for")
}

/// The same for several: their paths in the given order.
pub(crate) fn tools(names: &[&str]) -> Result<Vec<PathBuf>> {
    let wanted = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    build::all(&wanted)
}

/// Every tool that [`tool`] knows.
pub fn tool_names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}

fn find(name: &str) -> Result<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name).with_context(|| {
        let known: Vec<&str> = tool_names().collect();
        format!("there is no tool {name:?}: known are {}", known.join(", "))
    })
}
