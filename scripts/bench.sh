#!/usr/bin/env bash
# The figures of docs/benchmarks.md, one after the other, after facts about the machine. Exits with an error if a result
# was wrong or a run failed; a missed goal is printed.
#
#   bench.sh [--quick] [NAME...]     NAME: engine decode kafka freshness statement idle serving views parquet nexmark tpch (all of them)
#
# --quick takes a tenth of the rows: whether everything still works, not how fast it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

rows=10000000
records=4000000
seconds=20
scale=0.1
names=()
for word in "$@"; do
  case "$word" in
    --quick) rows=1000000 records=400000 seconds=15 scale=0.01 ;;
    engine | decode | kafka | freshness | statement | idle | serving | views | parquet | nexmark | tpch) names+=("$word") ;;
    *) echo "bench.sh: unknown argument $word" >&2; exit 1 ;;
  esac
done
[ "${#names[@]}" -gt 0 ] || names=(engine decode kafka freshness statement idle serving views parquet nexmark tpch)

cargo build --release --locked --workspace --bins
bench="$CARGO_TARGET_DIR/release/eddyline-bench"
export EDDYLINE_BIN="$CARGO_TARGET_DIR/release/eddyline"

machine() {
  echo "machine: $(nproc) cores, $(awk '/MemTotal/ {printf "%.1f GiB", $2 / 1048576}' /proc/meminfo)," \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort -u | head -n 1)"
  echo "system: $(uname -sr), $(rustc --version), load $(cut -d ' ' -f 1-3 /proc/loadavg) at the start"
  echo "commit: $(git describe --always --dirty 2>/dev/null || echo unknown), $(date -u '+%Y-%m-%d %H:%M UTC')"
}

run() {
  case "$1" in
    engine)
      # The faster a case, the more rows: checkpoints shall come inside the run.
      "$bench" engine --case filter --rows $((rows * 3)) && "$bench" engine --case tumble --rows $((rows * 6)) &&
        "$bench" engine --case group --rows $((rows * 4)) && "$bench" engine --case pass --rows $((rows * 2)) &&
        "$bench" engine --case join --rows "$rows"
      ;;
    kafka) "$bench" kafka --records "$records" ;;
    freshness) "$bench" freshness --seconds "$seconds" ;;
    serving) "$bench" serving --rows "$rows" ;;
    parquet) "$bench" parquet --rows $((rows * 2)) ;;
    # The comparison of q9 and q16 with a SELECT does not fit the memory that queries have by default.
    nexmark) EDDYLINE_QUERY_MEMORY=4GiB "$bench" nexmark --events $((rows / 10)) --long $((rows * 2)) ;;
    tpch) "$bench" tpch --scale "$scale" ;;
    *) "$bench" "$1" ;;
  esac
}

machine
failed=()
for name in "${names[@]}"; do
  echo
  echo "# $name"
  run "$name" || failed+=("$name")
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "bench.sh: not measured: ${failed[*]}" >&2
  exit 1
fi
