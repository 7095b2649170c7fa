#!/usr/bin/env bash
# Every test: unit, doc, integration. The server binary is built first, for the tests that start it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
cargo build --release --locked --workspace --bin eddyline
export EDDYLINE_BIN="$CARGO_TARGET_DIR/release/eddyline"
cargo test --release --locked --workspace
