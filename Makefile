# The one entry point. Every target makes .venv with pip if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= leanrec-demo
CASE ?= shop-small

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format docs tables bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, got $$($(PYTHON) -V); try make PYTHON=python3.12"; exit 2; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

demo: $(VENV)/core  ## simulate a shop, find the cheapest model that stays good there, write the report
	rm -rf $(DEMO_OUT)
	$(BIN)/leanrec demo --out $(DEMO_OUT) $(DEMO_FLAGS)

test: $(VENV)/dev  ## the default tests: offline, on the CPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TEST_FLAGS)

test-all: $(VENV)/dev  ## with the slow ones, and branch coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not gpu and not network' --cov --cov-report=term-missing:skip-covered

check: $(VENV)/dev  ## format, lint, types, layers, names, figures in documents
	$(BIN)/ruff format --check src tests benchmarks mkdocs_hooks docs examples
	$(BIN)/ruff check src tests benchmarks mkdocs_hooks docs examples
	$(BIN)/basedpyright --level error
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/house
	$(BIN)/python -m pytest --collect-only -qq -m '' > /dev/null  # tests that are seldom run can be imported too
	$(BIN)/python -m benchmarks tables --check

format: $(VENV)/dev  ## format and fix what can be fixed
	$(BIN)/ruff format src tests benchmarks mkdocs_hooks docs examples
	$(BIN)/ruff check --fix src tests benchmarks mkdocs_hooks docs examples

$(VENV)/docs: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

docs: $(VENV)/docs  ## build the site in site/; a link that leads nowhere is an error
	$(BIN)/mkdocs build --strict

tables: $(VENV)/dev  ## write the tables of the docs again: what combines, what we measured
	PYTHONPATH=tests $(BIN)/python -m conformance.combinations
	$(BIN)/python -m benchmarks tables

bench: $(VENV)/core  ## measure what is missing of a case: make bench CASE=shop-small
	$(BIN)/python -m benchmarks run $(CASE) $(BENCH_FLAGS)

clean:  ## remove what the targets made
	rm -rf $(VENV) $(DEMO_OUT) site .pytest_cache .ruff_cache .hypothesis .coverage
