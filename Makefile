# Thin on purpose: each line is a command a person could type.

.PHONY: demo demo-shell demo-down test test-all unit lint sim bench generate tools

demo: ## Bring up a workload cluster on simulated hardware with the real components, and show it live.
	cargo bed demo

demo-shell: ## A shell inside the running demo: kubectl and clusterctl set up for both clusters.
	cargo bed shell

demo-down: ## End the running demo and remove what it left.
	cargo bed down

test: lint unit ## Everything CI checks: format, lints, walls, drift, unit tests, then the real bed's core scenarios.
	cargo bed test

test-all: lint unit ## As test, with every scenario of the bed.
	cargo bed test --all

unit:
	cargo test --workspace --quiet

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

sim: ## The host operator's own tests.
	cargo test --package capm3-sim

bench: ## Figures of the decisions (release build).
	cargo bench --package capm3-core

generate: ## Write crds/, clusterctl/ and the bed's host CRDs from the source.
	cargo xtask generate

tools: ## Build the pinned Go programs of the bed into its cache.
	cargo bed tools
