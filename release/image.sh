#!/bin/bash
# image.sh PART TARGET BINARY [DESTINATION]
# Makes the image of a binary: connectors-PART:VERSION-ARCHITECTURE in the store, and at DESTINATION, as buildah calls places. Its bill of
# materials is in the image and, if that is set, in the folder BILLS.
#   image.sh gateway aarch64-unknown-linux-gnu target/aarch64-unknown-linux-gnu/release/connectors-gateway oci:gateway
set -euo pipefail
source "$(dirname "$0")/common.sh"

part=$1 target=$2 binary=$3 destination=${4:-}
architecture=$(architecture "$target")
name=connectors-$part:$VERSION-$architecture
created=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)
mkdir -p "$STORE"
folder=$(mktemp -d "$STORE/$part.XXXXXX")
trap 'rm -r "$folder"' EXIT

"$(tools "$target")-strip" -o "$folder/connectors-$part" "$binary"
"$SBOM" "connectors-$part" "$target" "$created" >"$folder/connectors-$part.cdx.json"
cp "$AUTHORITIES" "$folder/ca-certificates.crt"
# Modes are part of the digest, the umask is not.
chmod 755 "$folder/connectors-$part"
chmod 644 "$folder/connectors-$part.cdx.json" "$folder/ca-certificates.crt"
if [ -n "${BILLS:-}" ]; then cp "$folder/connectors-$part.cdx.json" "$BILLS/connectors-$part-$VERSION-$architecture.cdx.json"; fi

buildah bud --quiet --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --platform "linux/$architecture" ${BASE:+--build-arg "BASE=$BASE"} \
  --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" --build-arg "CREATED=$created" \
  --target "$part" --file Containerfile --tag "$name" "$folder" >/dev/null
if [ -n "$destination" ]; then buildah push --quiet "$name" "$destination"; fi
