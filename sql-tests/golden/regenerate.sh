#!/bin/bash
# Makes input/, expected/ and ours/ anew. Needs Python 3 with venv, Java 17, and PyPI for Flink's jars; arguments are names of queries.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
flink=1.20.1
venv=${GOLDEN_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/eddyline/flink-$flink}

if [ ! -d "$venv" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --no-deps "apache-flink-libraries==$flink"
fi
lib=$(echo "$venv"/lib/python3*/site-packages/pyflink/lib)

python3 "$here/generate.py"
java -Xmx1g --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.time=ALL-UNNAMED \
  -cp "$lib/*" "$here/Golden.java" "$here" "$@"
python3 "$here/model.py"
