#!/usr/bin/env bash
# Installs what the build and the tests need and the machine lacks. Quiet when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

# command or file : Debian package
needs=(
  "cc:gcc" "c++:g++" "clang++:clang" "make:make" "pkg-config:pkg-config" "python3:python3" "mold:mold" "psql:postgresql-client"
  "/usr/include/openssl/ssl.h:libssl-dev" "/usr/include/zlib.h:zlib1g-dev" "javac:default-jdk-headless" "mvn:maven"
)
missing=()
for need in "${needs[@]}"; do
  what="${need%%:*}"
  package="${need##*:}"
  case "$what" in
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) command -v "$what" >/dev/null || missing+=("$package") ;;
  esac
done
# bindgen reads RocksDB's header through libclang (not libclang-cpp, which other packages bring).
ls /usr/lib/llvm-*/lib/libclang[.-][s0-9]* >/dev/null 2>&1 || missing+=(libclang-dev)
if [ "${1:-}" = test ]; then
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql)
  command -v npm >/dev/null || missing+=(npm)
fi
if [ "${#missing[@]}" -gt 0 ]; then
  echo "installing: ${missing[*]}"
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! command -v cargo >/dev/null; then
  echo "a Rust toolchain is needed: see https://rustup.rs" >&2
  exit 1
fi
if [ "$(uname -sm)" = "Linux x86_64" ]; then
  scripts/rocksdb.sh
fi
