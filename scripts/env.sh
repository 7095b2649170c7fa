# Sourced by the other scripts: where builds and downloads are kept. Outside the checkout, so that a fresh clone
# reuses compiled dependencies.
export EDDYLINE_CACHE="${EDDYLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eddyline}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$EDDYLINE_CACHE/target}"
mkdir -p "$EDDYLINE_CACHE"
