# Each target does its own setup and works on a new machine with Python 3.11 or later.
PYTHON ?= python3
VENV   := .venv
# Number of test processes; the tests of one file run in order in one process.
TEST_PROCESSES ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FILES  := cli.py settings.py errors.py resources.py subprocesses.py adapters configs examples commands dispatch papers models worker judge db trainer migrations tests testing benchmarks docs

.PHONY: help setup demo test lint fix siege siege-short scale fleet wheel bench bench-data check-parse docs compose-check gpu-test clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup        create .venv with .venv/bin/referee
setup: $(STAMP)

# Install the pinned torch first, so that packages that depend on it find it installed. An editable
# installation only has the top-level packages that existed at the time, so a new one triggers another.
$(STAMP): pyproject.toml constraints.txt $(wildcard */__init__.py)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet $(shell sed -n '/^torch==/p' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# Files in build/ from an earlier version would be packed again.
## make wheel        build dist/referee-*.whl, for pipx or uv
wheel:
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

## make demo         review three real papers on this machine; needs no GPU
demo: setup
	$(BIN)/referee demo

# Write bytecode regardless of the environment: a run starts about 60 workers. Workers and training do
# without torch's compiler too, see worker/process.py.
## make test         run all tests except those marked gpu
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TORCHDYNAMO_DISABLE=1 $(BIN)/python -m pytest -m 'not gpu' -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

## make lint         ruff, mypy (--strict for the program) and the import contracts
lint: setup
	$(BIN)/ruff check $(FILES)
	$(BIN)/ruff format --check $(FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

## make fix          ruff --fix and ruff format
fix: setup
	$(BIN)/ruff check --fix $(FILES)
	$(BIN)/ruff format $(FILES)

## make siege        fault injection while 1,000 papers, then a judge's questions run; three seeds per database
siege: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.siege --seeds 1,2,3 --json benchmarks/results/siege.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.siege --seeds 1,2,3 --work judge --json benchmarks/results/siege_judge.json

## make siege-short  the same with one seed and 300 papers on SQLite, as in CI
siege-short: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.siege --seeds $${SEED:-1} --databases $${DATABASE:-sqlite} --work $${WORK:-review} --short

## make scale        time of submit, drain, status and export for 1,000 to 100,000 jobs on both databases
scale: setup
	for database in sqlite postgresql; do for jobs in 1000 10000 23000 100000; do \
	  $(BIN)/python benchmarks/scale.py --jobs $$jobs --database $$database \
	    --json benchmarks/results/scale.json || exit 1; done; done

## make fleet        connections and idle cost of 40 workers with 90 slots on one PostgreSQL
fleet: setup
	$(BIN)/python -m benchmarks.fleet --json benchmarks/results/fleet.json

## make check-parse  check that 100 reviews by the small model parse strictly; needs ../shared/data
check-parse: setup
	$(BIN)/python -m benchmarks.check_parse --papers 100 --json benchmarks/results/check_parse.json

## make bench        effect of suppression on real prefixes; needs ../shared/data
bench: setup
	$(BIN)/python -m benchmarks.suppression_effect --json benchmarks/results/suppression_effect.json

## make bench-data   time the training data commands on the shared sets; needs ../shared/data
bench-data: setup
	$(BIN)/python -m benchmarks.training_data --json benchmarks/results/training_data.json
	$(BIN)/python -m benchmarks.sentence_stances --json benchmarks/results/sentence_stances.json

## make docs         write docs/cli.md from --help
docs: setup
	$(BIN)/python docs/help.py

## make compose-check  validate all compose files; needs docker-compose but no Docker engine
compose-check:
	export REFEREE_BROKER_PASSWORD=x REFEREE_DATABASE_PASSWORD=x REFEREE_PRIVATE_ADDRESS=10.0.0.5; \
	export REFEREE_BROKER_URL=x REFEREE_DATABASE_URL=x; \
	for file in docker-compose.yml deploy/server/docker-compose.yml deploy/worker/docker-compose.yml; do \
	  docker-compose -f $$file config -q || exit 1; done

## make gpu-test     run the tests marked gpu, on a machine with a GPU
gpu-test: setup
	$(BIN)/python -m pytest -m gpu tests/gpu

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
