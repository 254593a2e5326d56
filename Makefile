# The verbs of this project. Each does its whole set-up on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
VENV   := .venv
# Tests at the same time; each file's tests stay together and in order.
TEST_PROCESSES ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FILES  := cli.py settings.py errors.py papers models worker judge db migrations tests benchmarks docs

.PHONY: help setup demo test lint fix bench check-parse docs compose-check gpu-test clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup        .venv with .venv/bin/referee
setup: $(STAMP)

# torch comes first and pinned: whatever depends on it then finds it there.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet $(shell sed -n '/^torch==/p' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

## make demo         reviews of three real papers on this machine, no GPU needed
demo: setup
	$(BIN)/referee demo

## make test         all tests but the gpu ring
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not gpu' -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

## make lint         ruff and mypy --strict
lint: setup
	$(BIN)/ruff check $(FILES)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/mypy

## make fix          let ruff mend what it can
fix: setup
	$(BIN)/ruff check --fix $(FILES)
	$(BIN)/ruff format $(FILES)

## make check-parse  100 reviews by the small model must parse strictly; needs ../shared/data
check-parse: setup
	$(BIN)/python -m benchmarks.check_parse --papers 100 --json benchmarks/results/check_parse.json

## make bench        what suppression does on real prefixes; needs ../shared/data
bench: setup
	$(BIN)/python -m benchmarks.suppression_effect --json benchmarks/results/suppression_effect.json

## make docs         docs/cli.md from the program's own --help
docs: setup
	$(BIN)/python docs/help.py

## make compose-check  docker-compose.yml is valid; needs docker-compose, no engine
compose-check:
	REFEREE_BROKER_PASSWORD=x REFEREE_DATABASE_PASSWORD=x docker-compose -f docker-compose.yml config -q

## make gpu-test     the gpu ring, on a machine that has one
gpu-test: setup
	$(BIN)/python -m pytest -m gpu tests/gpu

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
