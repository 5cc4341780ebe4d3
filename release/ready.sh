#!/bin/bash
# ready.sh TARGET…
# Says what keeps a release of VERSION for these targets of Rust from being made, before anything is.
set -euo pipefail
source "$(dirname "$0")/common.sh"

refuse() { echo "no release: $1" >&2; exit 1; }

written=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
[ "$VERSION" = "$written" ] ||
  refuse "Cargo.toml says version $written. Write $VERSION there, in charts/connectors/Chart.yaml and as the tag of the images in config/, commit, and try again"
[ -z "$(git status --porcelain --untracked-files=no)" ] ||
  refuse "there are changes without a commit (git status). What is released is what a commit has, so that others can make the same"
for target; do
  [ -d "$(rustc --print target-libdir --target "$target")" ] ||
    rustup target add "$target" ||
    refuse "Rust's standard library for $target is missing: rustup target add $target, on a machine that reaches Rust's own server"
done
