# The verbs of the project; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIR ?= leadledger-demo
N ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test unit lint format types schema docs wheel clean

help: ## List the verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/leadledger: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(BIN)/leadledger ## Make the virtual environment and install

demo: install ## Run the main job on the Olist data (DIR=folder puts it elsewhere)
	$(BIN)/leadledger demo --data tests/data/olist --dir "$(DIR)"

test: install lint types ## Everything that must pass: lint, types, all tests
	$(BIN)/python -m pytest -n $(N) --dist loadfile tests

unit: install ## The tests of the pure core only
	$(BIN)/python -m pytest -n $(N) tests/unit

lint: install ## Lint, format and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: install ## Format in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## Types, strictly
	$(BIN)/mypy

schema: install ## Write the JSON Schema of leadledger.yaml anew
	$(BIN)/leadledger schema > config/leadledger.schema.json

docs: install ## Write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

wheel: install ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove the virtual environment and what was built
	rm -rf $(VENV) dist build *.egg-info
