#!/bin/bash
# compile.sh TARGET…
# Compiles what is shipped, or PROGRAMS, for these targets of Rust into target/TARGET/release. The folders of this machine are in no binary: the
# same commit, compiler and packages give the same bytes in any of them.
set -euo pipefail
source "$(dirname "$0")/common.sh"

cargo_home=${CARGO_HOME:-$HOME/.cargo}
arguments=()
for program in ${PROGRAMS:-${PARTS[@]/#/connectors-}}; do arguments+=(--bin "$program"); done
for target; do
  # All of one Debian: its cross compiler alone would link a C library that gets no security updates (libc6-dev-arm64-cross).
  flags="'--remap-path-prefix=$PWD=/connectors', '--remap-path-prefix=$cargo_home=/cargo', '-Clink-arg=-B/usr/lib/$(tools "$target")'"
  arguments+=(--target "$target" --config "target.$target.rustflags=[$flags]")
  export "CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER=$(tools "$target")-gcc"
done
export CFLAGS="-ffile-prefix-map=$PWD=/connectors -ffile-prefix-map=$cargo_home=/cargo"
# mimalloc's C has the time of its compilation in it. Not the commit's: what was compiled for an earlier one is not compiled again.
SOURCE_DATE_EPOCH=0 cargo build --release --locked "${arguments[@]}"
