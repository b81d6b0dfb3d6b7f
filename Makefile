# `make help` lists the targets. Every target but `clean` and `help` first makes the environment it needs in $(VENV).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint types pytest docs result clean

VENV ?= .venv
BIN := $(VENV)/bin
# Options for every installation; on Linux, an index of CPU builds of torch here spares gigabytes of CUDA libraries.
PIP_ARGS ?=
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# The interpreter that makes $(VENV): the first of these that runs and is at least 3.11.
PYTHON ?= $(shell for python in python3.11 python3; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

DEMO_ARGS ?= --data digits --models rbm16,rbm,dbm,vae,iwae --engine numpyro --epochs 30 --out demo --seed 0
# Further arguments for pytest (`make test ARGS="-k rbm"`) or for a benchmark (`make result NAME=x ARGS=--smoke`).
ARGS ?=
# Most of the tests' time is compilation: XLA without its optimizations takes two thirds of it.
TEST_XLA_FLAGS ?= --xla_backend_optimization_level=0
# Processes for the tests.
JOBS ?= 2

# torch and BLAS are many times slower with several threads than with one at the sizes used here.
OMP_NUM_THREADS ?= 1
MKL_NUM_THREADS ?= 1
OPENBLAS_NUM_THREADS ?= 1
export OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## Train small models on digits and compare them (NumPyro alone, no torch); results in demo/.
	@echo "==> deepgen-ppl compare $(DEMO_ARGS)"
	@$(BIN)/deepgen-ppl compare $(DEMO_ARGS)

test: MARKERS := -m 'not slow'
test: lint types pytest ## Lint, types, and every test that is not marked slow.

test-all: lint types pytest ## Lint, types, and all tests.

pytest: $(VENV)/.test
	@echo "==> tests: pytest $(MARKERS) $(ARGS)"
	@XLA_FLAGS="$(TEST_XLA_FLAGS)" $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(MARKERS) $(ARGS)

lint: $(VENV)/.test ## Ruff: rules and format.
	@echo "==> lint: ruff check, ruff format --check"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(VENV)/.test ## Mypy over the package, and over what a user's lines are known to be.
	@echo "==> types: mypy"
	@$(BIN)/mypy deepgen_ppl tests/typing

docs: $(VENV)/.docs ## Build the site into docs/_build; warnings are errors.
	@echo "==> docs: sphinx-build docs docs/_build"
	@$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build
	@echo "==> docs: open docs/_build/index.html"

result: $(VENV)/.test ## Run benchmarks/NAME.py, which writes docs/results/NAME.json: make result NAME=... [ARGS=...].
	@test -f "benchmarks/$(NAME).py" || { echo "make result: expected NAME=... with one of:" \
	  "$(basename $(notdir $(wildcard benchmarks/*.py))); got '$(NAME)'" >&2; exit 2; }
	@echo "==> result: benchmarks/$(NAME).py $(ARGS)"
	@$(BIN)/python "benchmarks/$(NAME).py" $(ARGS)

clean: ## Remove caches, builds and the demo's output; the environment stays.
	@echo "==> clean: caches, builds, demo output"
	@rm -rf build dist demo docs/_build docs/reference .coverage .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -path './$(VENV)' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: expected Python 3.11 or newer as python3.11 or python3; found none." \
	  "Set PYTHON=..." >&2; exit 2; }
	@echo "==> environment: $(PYTHON) -m venv $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> install: the package with numpyro, arviz, cli and data (once; a few minutes)"
	@$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[numpyro,arviz,cli,data]'
	@touch $@

# `--group` needs pip 25.1.
$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> install: the package with everything, and the tools of the tests (once; several minutes)"
	@$(PIP) install $(PIP_ARGS) --upgrade 'pip>=25.1'
	@$(PIP) install $(PIP_ARGS) --constraint constraints.txt --group tests --group benchmarks --editable '.[all]'
	@touch $@

# The site is made from the NumPyro face.
$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "==> install: the package with numpyro, and sphinx (once; a few minutes)"
	@$(PIP) install $(PIP_ARGS) --upgrade 'pip>=25.1'
	@$(PIP) install $(PIP_ARGS) --constraint constraints.txt --group docs --editable '.[numpyro]'
	@touch $@
