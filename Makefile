# hookhub's commands; `make` lists them.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help run test fuzz browser api bench chaos check prepare fmt clippy doc sqlx deny typos language compose

# The build reads .sqlx/, never a database that happens to be in the environment.
export SQLX_OFFLINE := true
# Where `cargo install` puts what it installs.
export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin

help: ## list the commands
	@awk -F ': |## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$NF }' Makefile

run: ## start a hub with its own Postgres on 127.0.0.1:8080; ARGS="..." goes to `hookhub serve`
	@scripts/run $(ARGS)

test: ## run all tests on a throw-away Postgres; ARGS="..." goes to nextest and skips the doc tests
	@scripts/postgres-binaries >/dev/null
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked
	$(if $(ARGS),,cargo test --locked --doc)
	scripts/with-postgres cargo nextest run --locked $(if $(CI),--profile ci) $(ARGS)

fuzz: ## run the property tests with 5,000 random inputs instead of 256; CASES=N sets the number, ARGS="..." goes to nextest
	@scripts/postgres-binaries >/dev/null
	@cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked
	PROPTEST_CASES=$(or $(CASES),5000) scripts/with-postgres cargo nextest run --locked --profile fuzz $(ARGS)

browser: ## run the browser tests in Chromium; HOOKHUB_TEST_SEED=... repeats the disconnects of a run; ARGS="..." goes to the tests
	@scripts/postgres-binaries >/dev/null
	export HOOKHUB_CHROMIUM=$$(scripts/chromium) && scripts/with-postgres cargo test --locked --test browser -- $(ARGS)

api: ## test a running hub against its OpenAPI document, with PyPI's schemathesis; ARGS="..." goes to it
	@scripts/postgres-binaries >/dev/null
	scripts/schemathesis $(ARGS)

bench: ## measure publishing and delivering in a release build (ARGS="--help"), 19,000 streams (STREAMS="--help")
	@scripts/postgres-binaries >/dev/null
	cargo bench --locked --bench deliveries -- $(ARGS)
	cargo bench --locked --bench streams -- $(STREAMS)

chaos: ## ten minutes of injected faults, and a check that no event is lost; ARGS="--seed N --minutes M", PROFILE=release
	HOOKHUB_POSTGRES_BIN=$$(scripts/postgres-binaries) \
	  cargo test --locked --profile $(or $(PROFILE),dev) --test chaos -- $(ARGS)

check: fmt clippy doc sqlx deny typos language compose ## run every CI check besides the tests

prepare: ## regenerate .sqlx/ after a change of a statement or a migration
	@scripts/sqlx-cache

fmt:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test browser --test chaos -- -D warnings # they have test = false

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

sqlx:
	@scripts/sqlx-cache --check

# A debug build of cargo-deny takes two minutes and checks as well.
deny:
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --version '~0.20.2' --locked --debug
	cargo deny --locked check licenses bans sources
	@if cargo deny fetch db >/dev/null 2>&1; then \
	  echo "cargo deny --locked check advisories"; cargo deny --locked check advisories; \
	else \
	  echo "advisories: NOT CHECKED, the advisory database cannot be fetched from here"; \
	fi

typos:
	@if command -v typos >/dev/null; then \
	  echo typos; typos; \
	else \
	  echo "spelling: NOT CHECKED, typos is not installed (pip install typos)"; \
	fi

language:
	cargo test --locked --test language --quiet

compose:
	@if docker compose version >/dev/null 2>&1; then \
	  echo "docker compose config"; docker compose -f docker-compose.yml config --quiet; \
	elif command -v docker-compose >/dev/null; then \
	  echo "docker-compose config"; docker-compose -f docker-compose.yml config --quiet; \
	elif command -v check-jsonschema >/dev/null; then \
	  check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml; \
	else \
	  echo "docker-compose.yml: NOT CHECKED, docker compose is not installed (pip install check-jsonschema also checks it)"; \
	fi
