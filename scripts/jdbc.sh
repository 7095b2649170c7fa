#!/usr/bin/env bash
# Runs sql-tests/jdbc/Client.java with PostgreSQL's JDBC driver.
#
#   jdbc.sh PORT      the server's Postgres port; prints what the client prints
#
# The driver comes from Maven Central into ${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/jdbc, once.
set -euo pipefail

version=42.7.7
cache="${EDDYLINE_CACHE:-$HOME/.cache/eddyline}/jdbc"
jar="$cache/postgresql-$version.jar"
client="$(cd "$(dirname "$0")/.." && pwd)/sql-tests/jdbc/Client.java"

if [ ! -e "$jar" ]; then
  mkdir -p "$cache"
  mvn -q -B dependency:copy -Dartifact="org.postgresql:postgresql:$version" -DoutputDirectory="$cache" >"$cache/fetch.log" 2>&1 ||
    { tail -5 "$cache/fetch.log" >&2; echo "jdbc.sh: Maven could not fetch the driver (see $cache/fetch.log)" >&2; exit 1; }
fi
exec java -XX:TieredStopAtLevel=1 -cp "$jar" "$client" "$1"
