# Everything a developer or a CI machine runs. A fresh machine needs Python 3.11+, git and make; `setup` does the rest.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-slow test-oldest lint format type check bench data

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-11s %s\n", $$1, $$2}'

# The stamp is newer than pyproject.toml as long as nothing has to be installed.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: call make PYTHON=python3.11 (or later)"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[dev,data,plot,search]"
	@touch $@

setup: $(STAMP)  ## make the environment in .venv

quickstart: setup  ## train one model on five tasks of a real shop and print the comparison
	$(PY) -m benchmarks quickstart $(ARGS)

test: setup  ## unit tests, examples in docstrings and README, short notebooks
	$(PY) -m pytest -n auto --dist loadfile $(ARGS)

test-slow: setup  ## the tests that take minutes or read whole data sets
	$(PY) -m pytest -m slow $(ARGS)

test-oldest: $(OLDEST)/.installed  ## the tests on the oldest dependencies, in .venv-oldest; PYTHON=python3.11
	$(OLDEST)/bin/python -m pytest -n auto --dist loadfile -W ignore::optuna.exceptions.ExperimentalWarning tests $(ARGS)

$(OLDEST)/.installed: pyproject.toml tests/oldest.txt
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r tests/oldest.txt -e .
	@touch $@

lint: setup  ## ruff: rules and formatting, nothing is changed
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: setup  ## ruff: fix and format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

type: setup  ## mypy
	$(PY) -m mypy

check: lint type  ## what CI runs: lint, types, tests
	$(MAKE) test

bench: setup  ## compare with one LightGBM per task; ARGS="hotel_bookings --seeds 3"
	$(PY) -m benchmarks $(if $(ARGS),$(ARGS),complete_journey)

data: setup  ## build the Complete Journey table once and describe it
	$(PY) -c 'from mtl_classic.datasets import load_complete_journey as load; d = load(); print(d.X.shape, *d.tasks, sep="\n")'
