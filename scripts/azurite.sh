#!/usr/bin/env bash
# Azurite, which speaks the protocol of Azure's blob store, on loopback, for tests and trying things out.
#
#   azurite.sh fetch     get it into the cache (once; then it works offline)
#   azurite.sh run DIR   run it in the foreground with its data in DIR; prints its port when it answers, obeys the lines `stop` and
#                        `start` of its standard input, and ends when that does
#
# The port is a free one; there is a container "box" of the account devstoreaccount1. It comes from npm into
# ${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/azurite/VERSION.
set -euo pipefail

version=3.35.0
cache="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/azurite/$version"
program="$(cd "$(dirname "$0")/.." && pwd)/sql-tests/azure/azurite.js"

fail() { echo "azurite.sh: $*" >&2; exit 1; }

fetch() {
  [ -e "$cache/complete" ] && return
  command -v npm >/dev/null || fail "npm is missing (apt-get install npm)"
  mkdir -p "$cache"
  exec 8>"$cache/fetch.lock"
  flock 8
  [ -e "$cache/complete" ] && { exec 8>&-; return; }
  npm install --prefix "$cache" --no-audit --no-fund "azurite@$version" >"$cache/fetch.log" 2>&1 ||
    { tail -5 "$cache/fetch.log" >&2; fail "npm could not fetch Azurite $version (see $cache/fetch.log)"; }
  touch "$cache/complete"
  exec 8>&-
}

case "${1:-}:$#" in
  fetch:1) fetch ;;
  run:2)
    fetch
    mkdir -p "$2"
    exec node "$program" "$cache/node_modules" "$2"
    ;;
  *) fail "usage: azurite.sh fetch | run DIR" ;;
esac
