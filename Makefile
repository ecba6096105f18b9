# make setup      a virtual environment in .venv with pinned versions
# make reproduce  set-up, then the whole flow: data, models, unlearning, reports/index.html
# make quick      set-up, then a two-minute version of it, in out/quick
# make bench      set-up, then our engine's speed, beside its peers where ../shared/bench is: benchmarks/results.md
# make test       set-up, then the tests
# make test-fast  set-up, then the tests that start no flow and are not slow, with fewer examples
# make fuzz       set-up, then damaged files and odd requests for MINUTES=60, numbered from SEED=1; findings in runs/fuzz
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup reproduce quick bench test test-fast fuzz lint clean
.DEFAULT_GOAL := setup

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: setup
	dvc repro

quick: setup
	srun data fetch ml-100k
	srun run --params presets/quick.yaml --out out/quick

bench: setup
	python benchmarks/run.py $(BENCH)

test: setup
	pytest -n 2 --dist worksteal

test-fast: setup
	pytest -n 2 --dist worksteal -m "not slow and not pipeline and not fuzz" --hypothesis-profile fast

MINUTES ?= 60
SEED ?= 1

fuzz: setup
	pytest -s -m fuzz --fuzz-minutes $(MINUTES) --fuzz-seed $(SEED)

lint: setup
	ruff check .
	ruff format --check .
	mypy

clean:
	rm -rf .venv out runs
