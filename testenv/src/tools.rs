//! The Go tools: built on demand from the pinned modules in `tools/` and `tools-*/` into a cache folder
//! outside of the checkout, one build at a time, never twice for the same go.mod, go.sum, flags and Go
//! version.

mod build;
mod manifests;

use std::path::PathBuf;

use anyhow::{Context, Result};

pub(crate) use build::{cache, digest, lock};
pub use manifests::manifest;

/// A pinned go.mod. One has everything that must run together; whose dependencies would move the others' has
/// its own.
struct Module {
    go_mod: &'static str,
    go_sum: &'static str,
    /// Without these a binary does not know its version, and others draw conclusions from that.
    ldflags: &'static str,
}

static KUBERNETES: Module = Module {
    go_mod: include_str!("../tools/go.mod"),
    go_sum: include_str!("../tools/go.sum"),
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
     -X k8s.io/component-base/version.gitTreeState=clean",
};
static OLD_KUBECTL: Module = Module {
    go_mod: include_str!("../tools-kubectl/go.mod"),
    go_sum: include_str!("../tools-kubectl/go.sum"),
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.30.1 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=30 \
     -X k8s.io/component-base/version.gitTreeState=clean",
};
static HELM: Module = Module {
    go_mod: include_str!("../tools-helm/go.mod"),
    go_sum: include_str!("../tools-helm/go.sum"),
    ldflags: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
};
static SPRIG: Module = Module {
    go_mod: include_str!("../tools-sprig/go.mod"),
    go_sum: include_str!("../tools-sprig/go.sum"),
    ldflags: "-s -w",
};
static K6: Module = Module {
    go_mod: include_str!("../tools-k6/go.mod"),
    go_sum: include_str!("../tools-k6/go.sum"),
    ldflags: "-s -w",
};

/// A binary, the package it is built from, and its module.
struct Tool {
    name: &'static str,
    package: &'static str,
    module: &'static Module,
    /// How long it takes on two cores after those before it, so that who waits knows.
    seconds: u16,
    /// runc alone links C (libseccomp); everything else is static.
    cgo: bool,
    /// The one file of a program of our own, which uses what the module pins.
    source: Option<&'static str>,
}

const fn go(name: &'static str, seconds: u16, package: &'static str) -> Tool {
    Tool { name, package, module: &KUBERNETES, seconds, cgo: false, source: None }
}

/// In the order in which they are best built: the slowest first, what a control plane needs before what a
/// node needs.
static TOOLS: [Tool; 22] = [
    go("kube-apiserver", 220, "k8s.io/kubernetes/cmd/kube-apiserver"),
    go("etcd", 10, "go.etcd.io/etcd/server/v3"),
    go("kubectl", 20, "k8s.io/kubernetes/cmd/kubectl"),
    go("kubelet", 30, "k8s.io/kubernetes/cmd/kubelet"),
    go("kube-controller-manager", 20, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    go("kube-scheduler", 5, "k8s.io/kubernetes/cmd/kube-scheduler"),
    go("kube-proxy", 5, "k8s.io/kubernetes/cmd/kube-proxy"),
    go("containerd", 25, "github.com/containerd/containerd/v2/cmd/containerd"),
    go("containerd-shim-runc-v2", 1, "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    go("ctr", 2, "github.com/containerd/containerd/v2/cmd/ctr"),
    Tool { cgo: true, ..go("runc", 7, "github.com/opencontainers/runc") },
    go("coredns", 45, "github.com/coredns/coredns"),
    go("ptp", 1, "github.com/containernetworking/plugins/plugins/main/ptp"),
    go("loopback", 1, "github.com/containernetworking/plugins/plugins/main/loopback"),
    go("host-local", 1, "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    go("csi-sanity", 8, "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"),
    go("h2spec", 1, "github.com/summerwind/h2spec/cmd/h2spec"),
    Tool { module: &K6, ..go("k6", 60, "go.k6.io/k6") },
    // Clients that are tested through the gateway.
    Tool {
        source: Some(include_str!("../../acceptance/clients/client-go/main.go")),
        ..go("client-go", 2, "./client-go")
    },
    // What templates are compared with.
    Tool {
        module: &SPRIG,
        source: Some(include_str!("../tools-sprig/main.go")),
        ..go("sprig-corpus", 5, "./sprig")
    },
    Tool { module: &OLD_KUBECTL, ..go("kubectl-1.30", 120, "k8s.io/kubernetes/cmd/kubectl") },
    Tool { module: &HELM, ..go("helm", 60, "helm.sh/helm/v4/cmd/helm") },
];

/// The path of a tool (`kubectl`, `csi-sanity`, `h2spec`, …), built first if this machine does not have it
/// yet.
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
