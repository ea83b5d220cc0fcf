# heapkeeper's entry points. `make` alone lists them; `make demo` and `make test` set up all they need.
#
# The environment is .venv, made from the python3 on PATH. With PYTHON=/path/to/python3.X it is .venvs/make-3.X instead.
# It needs CPython 3.10 or later with its headers and venv, Rust, and a C compiler; nothing needs root.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ifeq ($(origin PYTHON),undefined)
PYTHON := python3
VENV ?= .venv
else
VENV ?= .venvs/make-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN := $(CURDIR)/$(VENV)/bin

# Most tests wait for a process that they have started.
TWO_AT_A_TIME := -n 2 --dist worksteal

# The crates with no Python in them; the Python face is tested from Python.
NO_PYTHON := --workspace --exclude heapkeeper-python

# What the installed package is made from.
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates python -type f \
	-not -path '*/tests/*' -not -path '*/benches/*' -not -path '*/examples/*' -not -path '*/target/*' \
	\( -name '*.rs' -o -name '*.toml' -o -name '*.[ch]' -o -name '*.html' -o -name '*.css' -o -name '*.js' -o -name '*.py' -o -name '*.pyi' -o -name '*.pth' \))

.PHONY: help build demo test test-rust test-python test-pythons test-cpython lint format bench bench-alloc bench-runtime bench-gc bench-profile docs claims pictures programs programs-gc programs-exact soak-gc sanitize soak fuzz clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: $(VENV)/.installed  ## heapkeeper in .venv, with what its tests need; PYTHON=... for another interpreter

demo: build  ## a leaking service on our heap, and the report that finds the leak
	"$(BIN)/heapkeeper" run examples/leaky_service.py

test:  ## every test: Rust, the installed package, the other Pythons found, some of CPython's own
	$(MAKE) --no-print-directory -j 2 test-rust build
	$(MAKE) --no-print-directory test-python test-pythons
	"$(BIN)/python" tests/cpython/run.py --subset quick --python "$(BIN)/python"

test-rust:  ## the crates that need no Python
	env -u MAKEFLAGS -u MFLAGS cargo test --quiet $(NO_PYTHON)  # tests that compile would look for make's other jobs

test-python: build  ## the installed package as a user drives it
	"$(BIN)/pytest" -q $(TWO_AT_A_TIME) tests benches

test-pythons: build  ## what of that depends on the version, on every other CPython found
	"$(BIN)/python" tools/other_pythons.py $(TWO_AT_A_TIME)

test-cpython: build  ## CPython's own tests on our heap, every CPython found: hours
	"$(BIN)/python" tests/cpython/run.py $(ARGS)

lint: build  ## rustfmt, clippy and ruff, with warnings as errors
	cargo fmt --all --check
	cargo fmt --manifest-path benches/runtime/Cargo.toml --check
	PYO3_PYTHON="$(BIN)/python" cargo clippy --quiet --workspace --all-targets -- -D warnings
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

format: build  ## what `lint` can repair by itself
	cargo fmt --all
	cargo fmt --manifest-path benches/runtime/Cargo.toml
	"$(BIN)/ruff" check --fix-only .
	"$(BIN)/ruff" format .

bench: bench-alloc bench-runtime bench-gc bench-profile  ## every benchmark
	cargo bench --package heapkeeper-heap

bench-alloc: build  ## allocators under CPython, compared; writes docs/benchmarks.md
	"$(BIN)/python" benches/alloc.py $(ARGS)

bench-runtime:  ## the crate against Rc and other collectors for Rust; writes docs/benchmarks.md
	"$(PYTHON)" benches/runtime.py $(ARGS)

bench-gc: build  ## CPython's collector and ours, compared; writes docs/benchmarks.md
	"$(BIN)/python" benches/collector.py $(ARGS)

bench-profile: build  ## memory profilers, compared: ours, tracemalloc, memray, scalene; writes docs/benchmarks.md
	"$(BIN)/python" benches/profiler.py $(ARGS)

docs:  ## the Rust documentation, in target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps $(NO_PYTHON)

claims: build $(VENV)/claims/.installed  ## what is said of Python's memory, measured on every Python found; writes docs/claims.md
	"$(BIN)/python" -m claims.runner $(ARGS)

pictures: build  ## README's pictures, from the demo and in Chromium; writes docs/pictures
	docs/pictures/make.sh "$(BIN)/python"

soak:  ## 10⁹ operations on the heap, contents and tables checked: minutes
	cargo run --quiet --release --package heapkeeper-heap --example soak $(ARGS)

programs:  ## 10⁶ generated programs against the collector's naive twins: ten minutes; PROGRAMS=... for another number
	HEAPKEEPER_PROGRAMS=$(or $(PROGRAMS),1000000) cargo test --release --package heapkeeper-gc --package heapkeeper --test twin

programs-gc: build  ## 10⁵ generated programs under CPython's collector and ours, their logs compared: half an hour; PROGRAMS=... for another number
	"$(BIN)/python" tests/collector/differential.py --count $(or $(PROGRAMS),100000) $(ARGS)

programs-exact: build  ## 4,000 generated programs under CPython's tracemalloc and ours, their counts compared: five minutes; PROGRAMS=... for another number
	"$(BIN)/python" tests/exact/agreement.py --count $(or $(PROGRAMS),4000) $(ARGS)

soak-gc: build  ## real programs under load, each full collection checked against CPython's: an hour; ARGS="--minutes 1" for less
	"$(BIN)/python" tests/collector/soak.py $(ARGS)

sanitize:  ## the crates that need no Python under AddressSanitizer; needs a nightly Rust
	RUSTFLAGS="-Zsanitizer=address --cfg heapkeeper_asan" cargo +nightly test --quiet --target $(shell rustc -vV | sed -n 's/^host: //p') \
		--target-dir target/sanitize --package heapkeeper-heap --package heapkeeper-gc --package heapkeeper --package heapkeeper-profile --tests

fuzz:  ## the fuzz targets, a minute each; needs cargo-fuzz and a nightly Rust
	cd fuzz && for target in $$(cargo fuzz list); do cargo +nightly fuzz run "$$target" -- -max_total_time=60 -len_control=0 -max_len=2401; done

clean:  ## removes what all of these made
	rm -rf .venv .venvs build .pytest_cache .ruff_cache
	cargo clean --quiet

# The stamps live in the environment, so that a new environment has none.
$(VENV)/.tools: requirements-dev.txt
	@"$(PYTHON)" tools/usable_python.py
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/pip" install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

# maturin comes from the environment instead of a throw-away one, so that cargo finds its last build unchanged.
$(VENV)/.installed: $(VENV)/.tools $(SOURCES)
	PATH="$(BIN):$$PATH" "$(BIN)/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
	@touch $@

# Other people's tools, which some claims are about, away from what our tests import.
$(VENV)/claims/.installed: claims/requirements.txt $(VENV)/.tools
	rm -rf "$(VENV)/claims"
	"$(BIN)/pip" install --quiet --disable-pip-version-check --target "$(VENV)/claims" --requirement $<
	@touch $@
