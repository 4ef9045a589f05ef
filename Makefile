# Everything a person or the CI runs on this repository. `make` alone lists the targets.
#
# demo, test, check, bench and install set themselves up on a fresh Debian or Ubuntu machine (scripts/setup) and
# do so once: a stamp in .venv is renewed only when pyproject.toml, a lock file or the set-up itself has changed.
# All paths are relative, so that the folder may be anywhere and may have blanks in its name.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
RUN_INPUTS := pyproject.toml requirements.lock scripts/setup
DEV_INPUTS := $(RUN_INPUTS) requirements-dev.lock
BENCHMARKS = $(sort $(patsubst benchmarks/%.py,%,$(shell grep -l __main__ benchmarks/*.py 2>/dev/null)))

# One more worker than the two cores of the CI: the daemon's tests mostly wait.
PARALLEL ?= -n 3 --dist=loadfile
# Arguments of a partial run, e.g. make test ARGS="tests/unit/nc -k quota"; the coverage gate is left out then.
ARGS ?=
FUZZ_SECONDS ?= 60
MINUTES ?= 3
# Tests start the program hundreds of times; without a cache each start would compile it anew. Also where the
# environment forbids to write one beside the sources.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help setup demo install uninstall install-billmanager uninstall-billmanager test check fuzz crash soak bench
.PHONY: bench-full docs clean distclean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready-test ## set up everything that demo, test and check need (also done by each of them)

demo: .venv/.ready-demo ## the reconciler against a sandbox on this machine, about a minute, leaves nothing behind
	@$(BIN)/reconciler demo

# Variables are told in scripts/install: make install DESTDIR=/tmp/x PREFIX=/opt/bill-nextcloud
install: .venv/.ready-demo ## install program, units and a first configuration (PREFIX=, DESTDIR=); an upgrade too
	@scripts/install install

uninstall: ## remove what install has put there; configuration and journal stay
	@scripts/install uninstall

# Variables are told in scripts/install-billmanager: make install-billmanager PREFIX=/usr/local/mgr5
install-billmanager: .venv/.ready-demo ## install BILLmanager's module pmnextcloud (PREFIX=, CONFIG=); an upgrade too
	@scripts/install-billmanager install

uninstall-billmanager: ## remove the module and put an earlier one of its name back; configuration and journal stay
	@scripts/install-billmanager uninstall

test: .venv/.ready-test ## the whole test suite, with the coverage that is demanded
	@rm -f .coverage .coverage.*
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=
	@$(BIN)/python scripts/coverage_gate.py
else
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)
endif

check: .venv/.ready-check ## style, types, layers, security, pinned packages, scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r states bm_db nc reconciler
	$(BIN)/python scripts/audit_packages.py
	for script in scripts/setup scripts/install scripts/install-billmanager scripts/venv.sh .ci/run; do \
	  bash -n "$$script" || exit 1; done

fuzz: .venv/.ready-check ## any bytes and rows into the parsers, a minute for each of them (FUZZ_SECONDS=)
	$(BIN)/python -m scripts.fuzz --seconds $(FUZZ_SECONDS)

crash: .venv/.ready-test ## killed at every effect of every scenario, half an hour; make test tries a share of them
	CRASH_POINTS=all $(BIN)/python -m pytest $(PARALLEL) tests/acceptance/crash

soak: .venv/.ready-test ## a provider under siege: faults, changes, kills, for MINUTES= (3); fails on any violation
	$(BIN)/python -m tests.soak.soak --minutes $(MINUTES)

bench: .venv/.ready-test ## the benchmarks in small: figures with ratios and goals, some minutes, never a test
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python -m "benchmarks.$$name" --rounds 3; done

bench-full: .venv/.ready-test ## the benchmarks at full size, half an hour; JSON and plots (by gnuplot) into build/bench
	@set -e; for name in $(BENCHMARKS); do \
	  $(BIN)/python -m "benchmarks.$$name" --full --json "build/bench/$$name.json"; done
	@$(BIN)/python -m scripts.plot_benchmarks build/bench/memory.json build/bench

docs: .venv/.ready-check ## write the generated parts of docs/ anew
	$(BIN)/python -m scripts.update_docs

lock: .venv/.ready-check ## renew requirements*.lock with the newest versions (needs Python 3.11, 3.12 and 3.13)
	$(BIN)/python scripts/lock.py

clean: ## remove caches, coverage data and build output
	rm -rf build dist ./*.egg-info .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## the same, and the virtual environment
	rm -rf .venv

.venv/.ready-demo: $(RUN_INPUTS)
	@scripts/setup demo

.venv/.ready-check: $(DEV_INPUTS)
	@scripts/setup check

.venv/.ready-test: $(DEV_INPUTS)
	@scripts/setup test
