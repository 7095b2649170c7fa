#!/usr/bin/env bash
# A single-node Apache Kafka broker on loopback, for tests, benchmarks and trying things out.
#
#   kafka.sh fetch                              get the jars into the cache (once; then it works offline)
#   kafka.sh start [--port N] [--dir DIR]       start (or restart on DIR's data), print the port when it answers
#   kafka.sh stop  [--dir DIR] [--kill]         stop it in order (or at once)
#
# --port 0 (the default) picks a free port on the first start of DIR and keeps it. Everything the broker writes is below
# DIR. The jars come from Maven Central into ${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/kafka/VERSION.
# Quiet: on success nothing but the port is printed. Each command may be repeated.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/maven.sh"

version=4.1.2
cache="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/kafka/$version"
heap=512m               # enough for a million records a second on loopback, small enough for a 2-core test machine
start_seconds_max=90    # a cold JVM on a machine that is busy compiling

fail() { echo "kafka.sh: $*" >&2; exit 1; }

fetch() {
  once_from_maven "$cache" "Kafka $version" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/jars" <<POM
<dependencies>
  <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
  <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies>
POM
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

alive() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

# Two different free ports, held open together while they are picked.
free_ports() {
  python3 -c 'import socket
held = [socket.socket() for _ in range(2)]
for s in held: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))'
}

configure() {
  local controller wanted="$port"
  read -r port controller < <(free_ports)
  [ "$wanted" = 0 ] || port="$wanted"
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
num.network.threads=2
num.io.threads=4
log.segment.bytes=268435456
PROPERTIES
  java -Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$cache/jars/*" -Dorg.slf4j.simpleLogger.logFile="$dir/format.log" \
    kafka.tools.StorageTool format --standalone -t AAAAAAAAAAAAAAAAAAAAAQ -c "$dir/server.properties" \
    >>"$dir/format.log" 2>&1 || { tail -3 "$dir/format.log" >&2; fail "could not format $dir/data"; }
  echo "$port" >"$dir/port"
}

start() {
  fetch
  mkdir -p "$dir"
  dir="$(cd "$dir" && pwd)"
  [ -s "$dir/port" ] || configure
  port="$(cat "$dir/port")"
  if ! alive; then
    : >"$dir/server.log"
    # One compiler: the other takes a third of a core in a broker's first minutes, which are all that this one has.
    setsid nohup java "-Xmx$heap" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -cp "$cache/jars/*" \
      -Dorg.slf4j.simpleLogger.logFile="$dir/server.log" -Dorg.slf4j.simpleLogger.defaultLogLevel=info \
      kafka.Kafka "$dir/server.properties" >"$dir/out.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
  fi
  local deadline=$((SECONDS + start_seconds_max))
  until grep -q "Kafka Server started" "$dir/server.log" 2>/dev/null && answers "$port"; do
    alive || { tail -n 5 "$dir/out.log" "$dir/server.log" >&2; fail "the broker ended while starting (see $dir/server.log)"; }
    [ $SECONDS -lt $deadline ] || fail "the broker did not answer within $start_seconds_max s (see $dir/server.log)"
    sleep 0.1
  done
  echo "$port"
}

stop() {
  [ -d "$dir" ] || return 0
  alive || { rm -f "$dir/pid"; return 0; }
  local pid deadline=$((SECONDS + 20))
  pid="$(cat "$dir/pid")"
  [ "$kill" = 1 ] && kill -9 "$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || kill -9 "$pid" 2>/dev/null || true
    sleep 0.05
  done
  rm -f "$dir/pid"
}

command="${1:-}"
shift || true
port=0
kill=0
dir="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/kafka/broker"
while [ $# -gt 0 ]; do
  case "$1" in
    --port) port="$2"; shift 2 ;;
    --dir) dir="$2"; shift 2 ;;
    --kill) kill=1; shift ;;
    *) fail "unknown argument $1" ;;
  esac
done
case "$command" in
  fetch | start | stop) "$command" ;;
  *) fail "usage: kafka.sh fetch | start [--port N] [--dir DIR] | stop [--dir DIR] [--kill]" ;;
esac
