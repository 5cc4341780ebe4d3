# Sourced by the scripts beside it: what all of them say, unless it is said otherwise. The time of all that is made is that of the commit, so
# that the same content has the same digest, whenever and wherever it is made.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${VERSION:=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)}"
# A copy of the sources without git knows neither.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
: "${REVISION:=$(git rev-parse HEAD 2>/dev/null || echo unknown)}"
: "${SBOM:=target/$(rustc --version --verbose | sed -n 's/^host: //p')/debug/sbom}"
: "${STORE:=$PWD/target/buildah}"
# For example registry.example/connectors; empty: names without a registry, for images that are brought to the nodes.
: "${REGISTRY:=}"
AUTHORITIES=/etc/ssl/certs/ca-certificates.crt
PARTS=(gateway controller csi)
export VERSION SOURCE_DATE_EPOCH REVISION SBOM STORE REGISTRY

# Images are made without a daemon and kept out of the machine's own image store.
buildah() { command buildah --storage-driver vfs --root "$STORE/root" --runroot "$STORE/run" "$@"; }

# What images call a target of Rust.
architecture() {
  case $1 in
  x86_64-*) echo amd64 ;;
  aarch64-*) echo arm64 ;;
  *) echo "no image is made for $1: x86_64 and aarch64 are" >&2; return 1 ;;
  esac
}

# The prefix of the compiler's tools for a target of Rust, as Debian has them.
tools() { echo "${1/-unknown/}"; }
