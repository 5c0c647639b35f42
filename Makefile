# limen: `make help` lists what there is.
# PYTHON=python3.12 make test chooses another interpreter; make test ARGS="-k plots" passes words to pytest (by default -n 2: two processes).

PYTHON ?= python3
ARGS ?= -n 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
SETUP := pyproject.toml constraints.txt
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The main job on embedded data: gradient descent through the edge of stability.
DEMO := gd digits fc-tanh mse 0.2 600 --neigs 2 --eig_freq 10 --test_freq 10

.PHONY: demo test check bench slow clean help

demo: $(VENV)/.run  ## train on embedded data through the edge of stability and draw the figure
	@mkdir -p demo
	@folder=$$(mktemp -d "demo/$$(date +%Y-%m-%d-%H%M%S)-XXXX"); \
	$(BIN)/limen $(DEMO) --results "$$folder/results"; \
	run=$$(dirname "$$(find "$$folder/results" -name run.json)"); \
	$(BIN)/limen plot "$$run" -o "$$folder/edge.png"  # prints the path of the figure

test: $(VENV)/.test  ## run the tests (make slow runs the long ones)
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev  ## ruff, format, types, doctests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --doctest-modules src

slow: $(VENV)/.test  ## run the science that takes minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

bench: $(VENV)/.test  ## time what matters and print the table
	$(BIN)/python -m benchmarks

clean:  ## remove the environment, caches and demo runs; results stay
	rm -rf $(VENV) .cache demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp says what is installed. The environment is made anew only where it is missing.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(SETUP) | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(SETUP) | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: $(SETUP) | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.run
