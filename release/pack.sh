#!/bin/bash
# pack.sh DESTINATION TARGET=FOLDER…
# Makes all that is shipped, of the binaries for each target of Rust in these folders. HELM and KUBECTL are the two programs.
#   pack.sh target/shipped/0.1.0 x86_64-unknown-linux-gnu=target/x86_64-unknown-linux-gnu/release
set -euo pipefail
source "$(dirname "$0")/common.sh"

destination=$1
shift
mkdir -p "$STORE"
work=$(mktemp -d "$STORE/pack.XXXXXX")
trap 'rm -r "$work"' EXIT
# A store of its own: nothing of an earlier release gets into a list of images.
export STORE=$work/store BILLS=$work/shipped
mkdir "$BILLS"

# The same content gives the same archive.
archive() { tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar -C "$1" -c "${@:2}"; }

# One archive of a part for all targets: who imports it takes what fits. Its name is the one in full that Kubernetes gives an image that is named
# without a registry: a runtime that imports it finds it under that.
images() {
  local part=$1 name=docker.io/library/connectors-$1:$VERSION pair images=()
  for pair in "${@:2}"; do
    release/image.sh "$part" "${pair%%=*}" "${pair#*=}/connectors-$part"
    images+=("containers-storage:localhost/connectors-$part:$VERSION-$(architecture "${pair%%=*}")")
  done
  buildah manifest create "localhost/connectors-$part:$VERSION" "${images[@]}" >/dev/null
  buildah manifest push --quiet --all "localhost/connectors-$part:$VERSION" "oci:$work/$part:$name" >/dev/null
  archive "$work/$part" . >"$work/shipped/connectors-$part-$VERSION.tar"
}

chart() {
  cp --recursive --dereference charts/connectors "$work/connectors"
  if [ -n "$REGISTRY" ]; then sed -i "s|^  registry: \"\"\$|  registry: \"$REGISTRY\"|" "$work/connectors/values.yaml"; fi
  "$HELM" package "$work/connectors" --version "$VERSION" --app-version "$VERSION" --destination "$work" >/dev/null
  rm -r "$work/connectors"
  # Packed anew: Helm writes the time of packing.
  tar -C "$work" -xzf "$work/connectors-$VERSION.tgz"
  archive "$work" connectors | gzip --no-name --best >"$work/shipped/connectors-$VERSION.tgz"
}

# A folder of config/ as one file.
manifests() {
  local folder=$1 name=$2 here=$work/manifests/$2 part
  mkdir -p "$here"
  {
    echo "resources: [$(realpath --relative-to "$here" "config/$folder")]"
    echo 'images:'
    for part in "${PARTS[@]}"; do
      echo "  - {name: connectors-$part, newName: ${REGISTRY:+$REGISTRY/}connectors-$part, newTag: '$VERSION'}"
    done
  } >"$here/kustomization.yaml"
  "$KUBECTL" kustomize "$here" >"$work/shipped/$name-$VERSION.yaml"
}

for part in "${PARTS[@]}"; do images "$part" "$@"; done
chart
manifests crd connectors-crds
manifests default connectors
manifests overlays/one-node connectors-one-node
manifests overlays/kubernetes-before-1.35 connectors-kubernetes-before-1.35
manifests monitoring connectors-monitoring
manifests rbac/flux connectors-flux
(cd "$work/shipped" && LC_ALL=C sha256sum -- * >"$work/SHA256SUMS")
mv "$work/SHA256SUMS" "$work/shipped/"
rm -rf "$destination"
mkdir -p "$(dirname "$destination")"
mv "$work/shipped" "$destination"
