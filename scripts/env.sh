# Sourced by the other scripts: where builds and downloads are kept. Outside the checkout, so that a fresh clone
# reuses compiled dependencies.
export EDDYLINE_CACHE="${EDDYLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eddyline}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$EDDYLINE_CACHE/target}"
mkdir -p "$EDDYLINE_CACHE"
# Cargo tells the crates of two checkouts apart by time only: what another checkout built last is built anew.
eddyline_checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -d "$CARGO_TARGET_DIR" ] && [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$eddyline_checkout" ]; then
    rm -rf "$CARGO_TARGET_DIR"/*/.fingerprint/eddyline-*
fi
mkdir -p "$CARGO_TARGET_DIR" && echo "$eddyline_checkout" > "$CARGO_TARGET_DIR/checkout"
# RocksDB is C++ files that are mostly headers: clang reads them a fifth faster than g++.
[ -n "${CXX:-}" ] || ! command -v clang++ >/dev/null || export CXX=clang++
# RocksDB as scripts/rocksdb.sh builds it. Where it does not, RocksDB's crate does, which takes several times as long.
eddyline_rocksdb="$EDDYLINE_CACHE/rocksdb-$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' "$eddyline_checkout/Cargo.lock")"
if [ -e "$eddyline_rocksdb/librocksdb.a" ]; then
    export ROCKSDB_LIB_DIR="$eddyline_rocksdb" ROCKSDB_STATIC=1
fi
