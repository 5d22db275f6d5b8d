# The verbs of the project; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIR ?= leadledger-demo
WORKERS ?= 2
N ?= 200
EXAMPLES ?= 200
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install demo test long unit faults crash soak bench audit lint format types schema docs wheel clean

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

test: install lint types ## Lint, types, insecure code, tests
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive connectors mappings sync
	@command -v hledger >/dev/null || echo "hledger is not installed (apt-get install hledger): its tests are left out"
	$(PYTEST) tests --ignore tests/faults --ignore tests/model -m "not long"

long: install ## The tests that take long: crashes in every step
	$(PYTEST) tests --ignore tests/faults --ignore tests/model -m long

faults: install ## The bad days: vendors, data, our own side, kills, any order of arrival
	$(PYTEST) tests/faults tests/model

crash: install ## Kill it at N random points and compare with an undisturbed run (N=200)
	LEADLEDGER_KILLS=$(N) $(BIN)/python -m pytest tests/faults/crash

soak: install ## Long: many kills (N=1000) and many orders of arrival (EXAMPLES=200)
	LEADLEDGER_KILLS=$(N) LEADLEDGER_EXAMPLES=$(EXAMPLES) $(PYTEST) tests/faults/crash tests/model

bench: install ## Each step beside its floor, a tenth of the size
	$(BIN)/leadledger bench --quick

unit: install ## The tests of the pure core only
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit

audit: install ## Insecure code, and known vulnerabilities of what is installed (asks a service)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive connectors mappings sync
	$(BIN)/python tests/security/audit.py

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
