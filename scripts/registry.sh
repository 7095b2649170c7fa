#!/usr/bin/env bash
# A schema registry on loopback, Apicurio's, which has Confluent's HTTP API, for tests and trying things out.
#
#   registry.sh fetch     get it into the cache (once; then it works offline)
#   registry.sh run DIR   run it in the foreground with its data in DIR; prints its port when it answers, obeys the lines `stop` and
#                         `start` of its standard input, and ends when that does
#
# The port is a free one, and http://127.0.0.1:PORT/apis/ccompat/v7 what a source calls schema.registry. It comes from Maven Central
# into ${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/registry/VERSION.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/maven.sh"

version=3.0.9           # runs on Java 17, as 3.3 does not
cache="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/registry/$version"
heap=512m
start_seconds_max=90    # a cold JVM on a machine that is busy compiling

fail() { echo "registry.sh: $*" >&2; exit 1; }

fetch() {
  once_from_maven "$cache" "Apicurio $version" dependency:unpack -DoutputDirectory="$cache/app" \
    -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all" </dev/null
}

answers() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'GET /apis/ccompat/v7/subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    read -r -t 5 status <&3
    [[ "$status" == *" 200"* ]]
  ) 2>/dev/null
}

start() {
  java "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" -Dquarkus.http.access-log.enabled=false \
    -Dapicurio.datasource.url="jdbc:h2:file:$dir/registry" \
    -jar "$cache/app/apicurio-registry-app-$version-runner.jar" </dev/null >>"$dir/registry.log" 2>&1 &
  pid=$!
  local deadline=$((SECONDS + start_seconds_max))
  until answers; do
    kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/registry.log" >&2; fail "it did not start"; }
    [ "$SECONDS" -lt "$deadline" ] || { tail -n 20 "$dir/registry.log" >&2; fail "it does not answer after $start_seconds_max s"; }
    sleep 0.1
  done
}

stop() {
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}

run() {
  fetch
  mkdir -p "$1"
  dir="$(cd "$1" && pwd)"
  pid=
  trap stop EXIT
  port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  start
  echo "$port"
  while read -r command; do
    case "$command" in
      stop) stop ;;
      start) start ;;
      *) fail "there is no command $command" ;;
    esac
    echo "$command"
  done
}

case "${1:-}:$#" in
  fetch:1) fetch ;;
  run:2) run "$2" ;;
  *) fail "usage: registry.sh fetch | run DIR" ;;
esac
