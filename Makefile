# `make repro` runs the pipeline, `make test` the tests, `make test-slow` those that take minutes (whole pipelines in clones); each
# sets up .venv first, once per requirements.txt. `make bench` tells how fast each step is, beside the least it could take.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/installed

.PHONY: repro test test-slow bench setup
.DELETE_ON_ERROR:

repro: setup
	PATH="$(BIN):$$PATH" $(BIN)/dvc repro

test: setup
	$(BIN)/ruff check stages tests benchmarks
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: setup
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 -m slow

bench: setup
	$(BIN)/python benchmarks/throughput.py --file benchmarks/throughput.md

setup: $(STAMP)

# the stamp is written last: an interrupted installation is repeated
$(STAMP): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	cp requirements.txt $(STAMP)
