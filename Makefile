PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/.runs
	$(BIN)/gradprom demo --overwrite

test: $(VENV)/.tests lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.tests
	$(BIN)/python -m pip install --quiet --editable ".[compare]"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/step_cost.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/alternatives.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/interface_gate.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/enhancement.py --write

clean:
	rm -rf $(VENV) demo build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.runs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.tests: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.runs
