# Everything starts from a clean clone and Python >= 3.11.
# Another torch than the registry's newest: make TORCH=torch==2.13.0 test
PYTHON ?= python3
TORCH ?= torch
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n auto --dist worksteal

.PHONY: test lint types layers unit lowest demo clean

# Once, and again when the project's file changes. torch first: what comes after takes it as it is.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

test: lint types layers unit

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

layers: $(VENV)/.installed
	$(BIN)/lint-imports

# CI is set by continuous integration, which has the time for the slow tests.
unit: $(VENV)/.installed
	$(PYTEST) $(if $(CI),,-m "not slow")

# The lower bounds in pyproject.toml, in an environment of their own.
lowest: $(VENV)/.installed
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python $(CURDIR)/.venv-lowest/bin/python "$(TORCH)" $(UVFLAGS)
	.venv-lowest/bin/uv pip install --quiet --python $(CURDIR)/.venv-lowest/bin/python \
	    --resolution lowest-direct --editable . --group dev $(UVFLAGS)
	.venv-lowest/bin/pytest -n auto -m "not slow"

# Train on the sample set, predict a scan it has not seen, evaluate it, and compare.
demo: $(VENV)/.installed
	rm -rf .demo
	$(BIN)/unetseg sample .demo/sample
	$(BIN)/unetseg train .demo/sample/mr/train -o .demo/run --time 2m
	$(BIN)/unetseg predict .demo/sample/mr/test/images -o .demo/masks --model .demo/run --overlay
	$(BIN)/unetseg evaluate .demo/sample/mr/test/labels .demo/masks -o .demo/scores.csv
	$(BIN)/python sample_data/baseline.py .demo/sample
	@echo "pictures: .demo/masks/*_overlay.png"

clean:
	rm -rf $(VENV) .venv-lowest .demo runs .coverage .hypothesis
