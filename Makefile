PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench docs clean

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
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/enhancement.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/runtimes.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/startup.py

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -q -E -W --keep-going -d build/docs docs site
	@echo site/index.html

clean:
	rm -rf $(VENV) demo build dist site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.runs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs,monai]"
	touch $@ $(VENV)/.runs

$(VENV)/.tests: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.runs
