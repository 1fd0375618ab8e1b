# Thin on purpose: each line is a command a person could type.

.PHONY: demo demo-shell demo-down test test-all tests unit lint deny sim simulator proof bench mutants generate image tools bed able

BED = $${CARGO_TARGET_DIR:-target}/release/bed

# What takes a newcomer minutes to run into otherwise; the bed itself looks at the rest before it starts anything.
able:
	@test "$$(id -u)" = 0 || { echo "The bed makes namespaces, mounts and bridges: run make as root, for example sudo -E env PATH=\"\$$PATH\" make"; exit 1; }
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup (https://rustup.rs); the toolchain it is built with comes by itself."; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing, which one dependency and the linker need: apt-get install build-essential"; exit 1; }
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer and put its bin folder on PATH."; exit 1; }

# Built together, because cargo builds dependencies once for each set of packages it is asked for.
bed: able ## The bed and what it runs.
	cargo build --release --locked --package capm3-e2e --package capm3-manager --package capm3-process-cri

demo: bed ## Bring up a workload cluster on simulated hardware with the real components, and show it live.
	$(BED) demo

demo-shell: ## A shell inside the running demo: kubectl and clusterctl set up for both clusters.
	@test -x $(BED) || { echo "There is no bed here yet: make demo builds and starts one."; exit 1; }
	@$(BED) shell

demo-down: ## End the running demo and remove what it left.
	@test -x $(BED) || { echo "There is no bed here yet, so none runs."; exit 0; }; $(BED) down

test: tests ## Everything CI checks: format, lints, walls, drift, all tests, then the real bed's core scenarios.
	$(BED) test

test-all: tests ## As test, with every scenario of the bed.
	$(BED) test --all

# Some tests ask a real API server. They run where there is one, and there is no network there: compiled before.
tests: able lint bed
	cargo test --workspace --locked --no-run --quiet
	$(BED) api -- cargo test --workspace --offline --quiet -- --include-ignored

unit: ## The tests that need nothing but Rust.
	cargo test --workspace --quiet

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

# Apart from lint: building cargo-deny takes ten minutes on 2 cores. Advisories are one more word and need the network.
deny: ## Licences, bans and sources of every dependency.
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install --locked cargo-deny@0.20.2"; exit 1; }
	cargo deny --locked check bans licenses sources

sim: simulator proof ## The simulator's own tests, then the proof machine.

simulator: ## The simulator's own tests: host operator, API server, its recorded conformance, a part of both runners.
	cargo test --package capm3-sim

# Counted, not timed: all plans in three commits, the same seeds each time. A machine that is too slow for that gets less by
# SIM='--seconds 900', and is told so; SIM='--slice 0/1' plays every plan.
proof: ## The proof machine: single faults of every scenario, 100 000 seeds, planted defects (release build).
	cargo run --release --locked --quiet --package capm3-sim --features planted --example prove -- all --summary target/sim/summary.json --slice $$(git rev-list --count HEAD 2>/dev/null || echo 0)/3 $(SIM)

# A count that misses its bound fails; time never does. BENCH_SCALE=100 makes a tenth of the machines and hosts.
bench: ## Figures of decisions, conversion, filling a pool and whole machines, with their bounds (release build).
	cargo bench --quiet --package capm3-core --package capm3-api --package capm3-sim

# Hours for the whole of it: a build and a test run for each mutant. One decision: make mutants OF="--file src/core/placement.rs".
mutants: ## Change the decisions one by one and see that a test notices.
	@cargo mutants --version >/dev/null 2>&1 || { echo "cargo-mutants is missing: cargo install --locked cargo-mutants@27.1.0"; exit 1; }
	cargo mutants --package capm3-core --output target $(OF)

generate: ## Write crds/, clusterctl/, the reference pages and the bed's host CRDs from the source.
	cargo xtask generate

ENGINE = docker
REGISTRY = registry.local/capm3
VERSION = $$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

image: ## The container image of both managers, tagged for REGISTRY and built by ENGINE (docker, podman).
	@$(ENGINE) info >/dev/null 2>&1 || { echo "$(ENGINE) does not answer: image needs docker or podman (ENGINE=podman), and over the network the image of rust and Debian's packages."; exit 1; }
	$(ENGINE) build --file Containerfile --tag $(REGISTRY)/capm3-manager:v$(VERSION) .

tools: bed ## Build the pinned Go programs of the bed into its cache.
	$(BED) tools
