# Everything below runs in .venv, which the first target that needs it creates. Nothing is installed globally.
# Another interpreter: make setup PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Old versions of pip build source packages (seqeval) without the dependencies of what builds them, except by PEP 517.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install --use-pep517 --constraint constraints.txt

# What `make bench` measures on: a folder with train.txt and val.txt, and optionally a checkout of nanoGPT.
TEXT ?=
NANOGPT ?=
SEEDS ?= 3

# Number of tests that run at a time, each on one thread.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-kill lint docs bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## create .venv with everything in it (the other targets do so when needed)

# The stamp is written last, so an interrupted installation is resumed.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  { echo "setup: creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "setup: installing torch"
	@$(PIP) torch
	@echo "setup: installing ssl_nlp and what it depends on"
	@$(PIP) --editable '.[dev,docs,benchmarks,notebooks]'
	@touch $@
	@echo "setup: done"

demo: $(INSTALLED)  ## pretrain five small models, show what they learned, and compare them
	@$(BIN)/python -m ssl_nlp demo

test: $(INSTALLED)  ## run all tests on WORKERS=2 cores; ARGS="-k name" goes to pytest
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-fast: $(INSTALLED)  ## run the tests that need little time: under three minutes on two cores
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not kill and not slow' $(ARGS)

test-kill: $(INSTALLED)  ## kill commands at every possible moment, and check that they resume as if nothing had happened
	@$(BIN)/python -m pytest -m kill -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(INSTALLED)  ## check style, types and which package imports which
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo

docs: $(INSTALLED)  ## build the documentation into build/site, with its links checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict

bench: $(INSTALLED)  ## train on TEXT beside nanoGPT: make bench TEXT=folder NANOGPT=checkout
	@[ -n '$(TEXT)' ] || { echo "a folder with train.txt and val.txt is needed: make bench TEXT=folder" >&2; exit 2; }
	@$(BIN)/python benchmarks/shakespeare_char.py --text '$(TEXT)' --seeds $(SEEDS) $(if $(NANOGPT),--nanogpt '$(NANOGPT)')

clean:  ## remove build leftovers and the caches of the tools; .venv and runs/ stay
	@rm -rf build dist *.egg-info .ruff_cache .mypy_cache .pytest_cache .import_linter_cache
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
