# Two commands matter: `make run` and `make test`. Both share one build.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
ENV := . scripts/env.sh
# Matters of taste that the code decides case by case.
STYLE := -A clippy::needless_range_loop -A clippy::large_enum_variant -A clippy::manual_is_multiple_of -A clippy::vec_box -A clippy::needless_borrow -A clippy::borrowed_box

.PHONY: help setup build run test lint bench dist clean

help: ## what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:
	@scripts/setup.sh

build: setup ## the server, optimised
	@$(ENV) && cargo build --release --locked --workspace --bin eddyline

run: build ## set up, build, start a server with a demo on it; Ctrl-C stops it, again `make run` goes on
	@$(ENV) && exec "$$CARGO_TARGET_DIR/release/eddyline" demo --data-dir "$${EDDYLINE_DATA_DIR:-$(CURDIR)/data}"

test: ## set up and run every test
	@scripts/setup.sh test
	@scripts/test.sh

lint: setup ## format and lint, as CI does
	@$(ENV) && cargo fmt --check && cargo clippy --release --locked --workspace --all-targets -- -D warnings $(STYLE)

bench: setup ## the benchmarks of docs/benchmarks.md
	@scripts/bench.sh

dist: setup ## the server as it is given away: takes long to build, runs fastest; prints where it is
	@$(ENV) && cargo build --profile dist --locked --workspace --bin eddyline && echo "$$CARGO_TARGET_DIR/dist/eddyline"

clean: ## remove the build and the demo's data
	@$(ENV) && cargo clean && rm -rf data
