# `make` alone lists the targets. Needed: Python 3.11 or newer, and make.
PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST := .venv-oldest-flower

# Through the environment, so that the pins hold for isolated builds too (older pip reads the first, newer the second).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test check flower cases docs results wheel clean

help:
	@echo 'make demo     attack a federation, find the backdoor, repair the model; writes fedmend-demo/'
	@echo 'make test     run the whole test suite, in two processes'
	@echo 'make check    format, lint, strict types, import layers, sizes and names'
	@echo 'make flower   test the Flower integration with the oldest version of Flower that it supports'
	@echo 'make cases    run a folder of cases: make cases CASES=folder FEDMEND_DATA=datasets'
	@echo 'make docs     build the documentation into site/, warnings as errors'
	@echo 'make results  print every benchmark target from the results files: met or missed'
	@echo 'make wheel    build the package into dist/ and try it in an empty environment'
	@echo 'make clean    remove .venv, build outputs and caches'
	@echo
	@echo 'Each sets up .venv first, from constraints.txt. Another Python: make PYTHON=python3.12 demo'
	@echo 'More arguments: make demo ARGS=--fast, make test ARGS="-k partition", make results ARGS=--json'

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>&1) || found='not there'; \
	  echo "fedmend needs Python 3.11 or newer, and $(PYTHON) is $$found." >&2; \
	  echo 'Name another one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo 'Setting up $(VENV): torch first, the largest part by far ...' >&2
	@$(BIN)/python -m pip install --quiet torch
	@echo 'Setting up $(VENV): fedmend, what it needs and its tools ...' >&2
	@$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	@touch $@

demo: $(READY)
	@$(BIN)/fedmend demo --out fedmend-demo $(ARGS)

test: $(READY)
	@$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_shape.py

# Without the pins: they are the newest Flower's. The deployment's SuperLink has options that the oldest doesn't know.
flower: $(READY)
	@$(PYTHON) -m venv --clear $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet torch
	@PIP_CONSTRAINT= $(OLDEST)/bin/python -m pip install --quiet 'flwr[simulation]==1.29.0' pytest pytest-xdist --editable .
	@$(OLDEST)/bin/python -m pytest tests/integrations/flower --deselect tests/integrations/flower/test_deployment.py $(ARGS)

cases: $(READY)
	@test -n '$(CASES)' || { echo 'Name the folder of the cases: make cases CASES=folder' >&2; exit 2; }
	@$(BIN)/python scripts/run_cases.py '$(CASES)' $(ARGS)

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)
	@echo 'Documentation: site/index.html'

results: $(READY)
	@$(BIN)/python benchmarks/results.py $(ARGS)

wheel: $(READY)
	@rm -rf dist
	$(BIN)/python -m build --outdir dist >/dev/null
	$(BIN)/python scripts/check_wheel.py dist/*.whl

clean:
	rm -rf $(VENV) $(OLDEST) dist build site fedmend-demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks examples scripts -name __pycache__ -type d -prune -exec rm -rf {} +
