# make run    set up what is missing, and start the server
# make test   set up what the tests need, and run all checks
# Further: make setup, make check (lint, types, layers), make clean; make bench, make
# bench-store, make bench-recall, make bench-wire, make load, make profile (docs/benchmarks.md); make chaos (docs/chaos.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-requirements
DEV_STAMP := $(VENV)/.dev-requirements
TEST_MODELS := $(abspath .cache/models)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

.PHONY: run setup test check tools model clean bench bench-store bench-recall bench-wire load profile chaos

run: $(RUN_STAMP)
	@exec $(BIN)/python -m chat_server serve

setup: $(RUN_STAMP)
	@$(BIN)/python -m memory prepare

$(BIN)/python:
	@echo "Creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Tandem needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt | $(BIN)/python
	@echo "Installing what the server needs (once; some minutes, about 2 GB with torch)"
	@$(PIP) install -r requirements.txt
	@touch $@

$(DEV_STAMP): requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing what the tests need"
	@$(PIP) install -r requirements-dev.txt
	@touch $(RUN_STAMP) $@

model: $(RUN_STAMP)
	@$(BIN)/python -m memory prepare --to $(TEST_MODELS)/all-MiniLM-L6-v2

# The browser's and the terminal's tests are skipped by name where Chromium or tmux is missing and
# cannot be installed; with CI set, a skipped test is a failure.
tools:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	command -v google-chrome >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium for the browser tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else echo "Chromium is missing; the browser tests will be skipped"; fi; }
	@command -v redis-server >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Redis, beside the Valkey of a wheel, for the tests of both"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null; \
	  else echo "redis-server is missing; its tests will be skipped, those of Valkey run"; fi; }
	@command -v tmux >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing tmux for the terminal tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq tmux >/dev/null; \
	  else echo "tmux is missing; the terminal tests will be skipped"; fi; }
	@command -v strace >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing strace for the tests of failing disks"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq strace >/dev/null; \
	  else echo "strace is missing; the tests of failing disks will be skipped"; fi; }

check: $(DEV_STAMP)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache

test: $(DEV_STAMP) model tools check
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python -m pytest -n auto --dist loadfile $(TESTS)

# BENCH=--quick for a short form of less than two minutes; the whole one takes most of an hour.
bench: $(RUN_STAMP) model
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python bench/turns.py --against naive $(BENCH)

# The store alone, beside plain Chroma; BENCH=--quick for two minutes.
bench-store: $(RUN_STAMP)
	@$(BIN)/python bench/store.py $(BENCH)

# What is found of what was said, how fast, in how much RAM; and what is not worth a search.
bench-recall: $(RUN_STAMP) model
	@$(BIN)/python -m bench.recall --model $(TEST_MODELS)/all-MiniLM-L6-v2 $(RECALL)
	@$(BIN)/python bench/planner.py
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python bench/memory_load.py

# Connections beside a bare echo: RAM, connecting, streaming, resuming, readers that stopped.
# BENCH=--quick for two minutes.
bench-wire: $(RUN_STAMP) model
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python bench/wire.py $(BENCH)

load: $(RUN_STAMP) model
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python bench/load.py $(LOAD)

$(BIN)/py-spy: | $(BIN)/python
	@echo "Installing py-spy, the profiler"
	@$(PIP) install py-spy

profile: $(RUN_STAMP) model $(BIN)/py-spy
	@TEST_MODELS_FOLDER=$(TEST_MODELS) $(BIN)/python bench/flame.py $(PROFILE)

# 200 kills and all planned faults, up to half an hour: docs/chaos.md. As root it can also fill a
# small disk, and move the clock with libfaketime. CHAOS="--kills 20 --short" for a short form.
chaos: $(DEV_STAMP) model tools
	@command -v faketime >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing libfaketime, which moves clocks"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq faketime >/dev/null; \
	  else echo "libfaketime is missing; the clock will not jump"; fi; }
	@$(BIN)/python -m tests.chaos $(CHAOS)

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
