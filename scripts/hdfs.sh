#!/usr/bin/env bash
# HDFS on loopback, a NameNode and a DataNode in one process (Hadoop's MiniDFSCluster), for tests and trying things out.
#
#   hdfs.sh fetch     get the jars into the cache (once; then it works offline)
#   hdfs.sh run DIR   run it in the foreground with new data in DIR; prints the NameNode's port when it answers,
#                     obeys the lines `stop` and `start` of its standard input, and ends when that does
#
# The port is a free one; hdfs://127.0.0.1:PORT/eddyline belongs to the user eddyline (HADOOP_USER_NAME). The jars come from Maven
# Central into ${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/hdfs/VERSION.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/maven.sh"

version=3.4.2
cache="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/hdfs/$version"
program="$(cd "$(dirname "$0")/.." && pwd)/sql-tests/hdfs/MiniCluster.java"
heap=512m

fail() { echo "hdfs.sh: $*" >&2; exit 1; }

fetch() {
  once_from_maven "$cache" "Hadoop $version" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/jars" <<POM
<dependencies>
  <dependency><groupId>org.apache.hadoop</groupId><artifactId>hadoop-client-minicluster</artifactId><version>$version</version></dependency>
  <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies>
POM
}

run() {
  fetch
  mkdir -p "$1"
  exec java "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -cp "$cache/jars/*" \
    -Dorg.slf4j.simpleLogger.logFile="$1/cluster.log" -Dorg.slf4j.simpleLogger.showDateTime=true "$program" "$1"
}

case "${1:-}:$#" in
  fetch:1) fetch ;;
  run:2) run "$2" ;;
  *) fail "usage: hdfs.sh fetch | run DIR" ;;
esac
