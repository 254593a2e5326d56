# The verbs of this project. Each does its whole set-up on a fresh machine with Python 3.11 or later.
PYTHON ?= python3
VENV   := .venv
# Tests at the same time; each file's tests stay together and in order.
TEST_PROCESSES ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FILES  := cli.py settings.py errors.py resources.py subprocesses.py adapters configs examples commands dispatch papers models worker judge db trainer migrations tests benchmarks docs

.PHONY: help setup demo test lint fix siege siege-short scale fleet wheel bench bench-data check-parse docs compose-check gpu-test clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup        .venv with .venv/bin/referee
setup: $(STAMP)

# torch comes first and pinned: whatever depends on it then finds it there. An editable installation
# knows the packages of its day: a new one asks for another.
$(STAMP): pyproject.toml constraints.txt $(wildcard */__init__.py)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet $(shell sed -n '/^torch==/p' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# The folder build/ of an earlier version would be packed again.
## make wheel        dist/referee-*.whl, for pipx or uv
wheel:
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

## make demo         reviews of three real papers on this machine, no GPU needed
demo: setup
	$(BIN)/referee demo

# Bytecode is kept, whatever the environment says: a run starts some 60 workers.
## make test         all tests but the gpu ring
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not gpu' -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

## make lint         ruff and mypy --strict
lint: setup
	$(BIN)/ruff check $(FILES)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/mypy

## make fix          let ruff mend what it can
fix: setup
	$(BIN)/ruff check --fix $(FILES)
	$(BIN)/ruff format $(FILES)

## make siege        workers, broker and database are struck while 1,000 papers run; three seeds on each database
siege: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.siege --seeds 1,2,3 --json benchmarks/results/siege.json

## make siege-short  one seed, 300 papers, on SQLite: what CI runs
siege-short: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.siege --seeds $${SEED:-1} --databases $${DATABASE:-sqlite} --short

## make scale        submission, drain, status and export at 1,000 to 100,000 jobs on both databases
scale: setup
	for database in sqlite postgresql; do for jobs in 1000 10000 23000 100000; do \
	  $(BIN)/python benchmarks/scale.py --jobs $$jobs --database $$database \
	    --json benchmarks/results/scale.json || exit 1; done; done

## make fleet        40 workers of 90 slots on one PostgreSQL: connections, and what an idle worker costs
fleet: setup
	$(BIN)/python -m benchmarks.fleet --json benchmarks/results/fleet.json

## make check-parse  100 reviews by the small model must parse strictly; needs ../shared/data
check-parse: setup
	$(BIN)/python -m benchmarks.check_parse --papers 100 --json benchmarks/results/check_parse.json

## make bench        what suppression does on real prefixes; needs ../shared/data
bench: setup
	$(BIN)/python -m benchmarks.suppression_effect --json benchmarks/results/suppression_effect.json

## make bench-data   training data from the shared sets, timed; needs ../shared/data
bench-data: setup
	$(BIN)/python -m benchmarks.training_data --json benchmarks/results/training_data.json
	$(BIN)/python -m benchmarks.sentence_stances --json benchmarks/results/sentence_stances.json

## make docs         docs/cli.md from the program's own --help
docs: setup
	$(BIN)/python docs/help.py

## make compose-check  all compose files are valid; needs docker-compose, no engine
compose-check:
	export REFEREE_BROKER_PASSWORD=x REFEREE_DATABASE_PASSWORD=x REFEREE_PRIVATE_ADDRESS=10.0.0.5; \
	export REFEREE_BROKER_URL=x REFEREE_DATABASE_URL=x; \
	for file in docker-compose.yml deploy/server/docker-compose.yml deploy/worker/docker-compose.yml; do \
	  docker-compose -f $$file config -q || exit 1; done

## make gpu-test     the gpu ring, on a machine that has one
gpu-test: setup
	$(BIN)/python -m pytest -m gpu tests/gpu

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
