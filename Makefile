# The commands of this project; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
# The stubs are generated with the oldest tools that we support: what they generate sets the floors.
PROTO_TOOLS := .tools/protos
PROTOS := $(wildcard protos/neardict/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help run test check format protos bench bench-check attack soak coverage clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neardict needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the server into $(VENV), which takes up to a minute"
	$(PIP_INSTALL) --editable '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the development tools into $(VENV), which takes a minute or two"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.server

$(PROTO_TOOLS)/.done: tools/protos-requirements.txt
	@echo "installing the generators of the stubs into $(PROTO_TOOLS), which takes up to a minute"
	$(PYTHON) -m venv $(PROTO_TOOLS)
	$(PROTO_TOOLS)/bin/python -m pip install --disable-pip-version-check --requirement $<
	@touch $@

run: $(VENV)/.server ## start the server on its embedded default (ARGS="..." passes options)
	@exec $(BIN)/neardict serve $(ARGS)

test: $(VENV)/.dev ## run every test (ARGS="..." passes options to pytest)
	$(BIN)/python -m pytest -n 4 --dist loadgroup $(ARGS)

coverage: $(VENV)/.dev ## run every test, a sixth slower, and list what none of them reaches
	$(BIN)/python -m pytest -n 4 --dist loadgroup --cov --cov-report=term-missing $(ARGS)

check: $(VENV)/.dev $(PROTO_TOOLS)/.done ## lint, types, contract, stubs are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint
	tools/generate-stubs --check $(PROTO_TOOLS)/bin

format: $(VENV)/.dev ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(PROTO_TOOLS)/.done ## generate the stubs from the contract
	tools/generate-stubs $(PROTO_TOOLS)/bin

bench: $(VENV)/.dev ## measure against the peers, and write docs/performance.md (ARGS=--print: only show)
	$(BIN)/python -m bench $(ARGS)

bench-check: $(VENV)/.dev ## fail if a ratio to a peer has fallen by half, a minute
	$(BIN)/python -m bench --check

attack: $(VENV)/.dev ## what one client can do to the others, two minutes (ARGS=--write puts the table)
	$(BIN)/python -m bench.attacks $(ARGS)

soak: $(VENV)/.dev ## clients and faults against what is promised, 20 minutes (ARGS=--write puts the figures)
	PYTHONPATH=tests $(BIN)/python -m coherence $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage
