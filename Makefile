# Two commands matter: `make demo` and `make test`. Both set up what is missing; Python 3.11+ is all they ask for.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin

.DEFAULT_GOAL := help

# Ray starts many processes; without cached bytecode each would compile torch and Ray again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test setup check fix dashboard clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

demo: setup  ## miniature datasets -> shards -> three stages -> all benchmarks -> runs/demo/report.html
	@$(BIN)/python pipelines/quickstart.py

test: setup  ## the whole default test suite
	@$(BIN)/pytest

setup: .venv/.synced  ## the locked environment in .venv

.venv/.synced: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || test -x .uv/bin/uv || { \
	  echo "setting up uv $(UV_VERSION) in .uv"; \
	  $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@echo "setting up the locked environment in .venv"
	@$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

check: setup  ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup  ## format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboard: setup  ## MLflow on http://127.0.0.1:5000 over the demo's runs
	$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///runs/demo/mlflow.db

clean:  ## remove runs and caches, keep the environment
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
