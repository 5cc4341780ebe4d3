#!/bin/bash
# Runs the targets one after another under libFuzzer, SECONDS_EACH (default 60) each, and tells how many inputs each took and what broke.
# Called by `make fuzz`: fuzz/run.sh <program> [target…]. What it learned stays in target/fuzz/corpus, what broke in target/fuzz/crashes.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1
shift
seconds=${SECONDS_EACH:-60}
targets=${*:-$("$program" 2>/dev/null)}
folder=target/fuzz
broken=0

printf '%-12s %12s %8s %8s %8s\n' target inputs 'a second' reached crashes
for target in $targets; do
  [ -d "fuzz/seeds/$target" ] || { echo "no target is called $target; there are: $("$program" 2>/dev/null | tr '\n' ' ')" >&2; exit 2; }
  mkdir -p "$folder/corpus/$target" "$folder/crashes/$target"
  log=$folder/$target.log
  touch "$folder/begun"
  # An input that takes 10 seconds or 256 MiB at once is broken too.
  CONNECTORS_FUZZ_TARGET=$target "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -max_len=8192 \
    -print_final_stats=1 -artifact_prefix="$folder/crashes/$target/" "$folder/corpus/$target" "fuzz/seeds/$target" >"$log" 2>&1 || true
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  # Earlier ones stay there for whoever has still to look at them.
  crashes=$(find "$folder/crashes/$target" -type f -newer "$folder/begun" | wc -l)
  printf '%-12s %12s %8s %8s %8s\n' "$target" "${inputs:-none}" "${rate:--}" "${reached:--}" "$crashes"
  if [ -z "$inputs" ] || [ "$crashes" != 0 ]; then
    broken=1
    echo "  see $log and $folder/crashes/$target" >&2
  fi
done
exit $broken
