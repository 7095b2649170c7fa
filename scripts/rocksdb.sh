#!/usr/bin/env bash
# RocksDB from the sources that its crate brings, many files to a compilation: each file by itself is mostly headers, and reading them for
# all 343 takes most of what the crate's own build takes. Does nothing where it is done. scripts/env.sh says where it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
[ ! -e "$eddyline_rocksdb/librocksdb.a" ] || exit 0

# RocksDB keeps its files such that all of them make one compilation (its `make unity.a`); so many compilations fill some cores and little memory.
parts=16
crates="$(cargo metadata --locked --format-version 1 | python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] in ("librocksdb-sys", "lz4-sys"):
        print(package["name"].replace("-", "_"), os.path.dirname(package["manifest_path"]))
')"
source="$(sed -n 's/^librocksdb_sys //p' <<<"$crates")"
lz4="$(sed -n 's/^lz4_sys //p' <<<"$crates")/liblz4/lib"
flags=(
  -O2 -fPIC -ffunction-sections -fdata-sections -std=c++20 -w -include cstdint -I "$source/rocksdb/include" -I "$source/rocksdb" -I "$lz4" -I "$source"
  -DNDEBUG -DLZ4 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX
  -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
)
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
echo "building RocksDB (once, some minutes)"
{ grep -v -e '^$' -e util/build_version.cc "$source/rocksdb_lib_sources.txt" | sed 's,.*,rocksdb/&,'; echo build_version.cc; } |
  sed 's,.*,#include "&",' >"$work/all"
split -n "l/$parts" -d --additional-suffix=.cc "$work/all" "$work/part"
printf '%s\n' "$work"/part*.cc | xargs -P "$(nproc)" -I{} "${CXX:-c++}" "${flags[@]}" -c {} -o {}.o
mkdir -p "$eddyline_rocksdb"
ar rcs "$work/librocksdb.a" "$work"/part*.o
# Last, and at once: what is there is whole.
mv "$work/librocksdb.a" "$eddyline_rocksdb/librocksdb.a.$$"
mv "$eddyline_rocksdb/librocksdb.a.$$" "$eddyline_rocksdb/librocksdb.a"
