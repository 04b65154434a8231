# One entry for people and for CI. `make demo` and `make test` are all a newcomer needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help setup demo test system servers lint check fix proto lock wheelhouse clean

# The working directory never shadows an installed package (docs/architecture.md).
export PYTHONSAFEPATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

PYTHON ?= python3
UV ?= .venv/bin/uv
PYTEST_FLAGS ?=
BIN := .venv/bin
FULL := .venv/.ready
LIGHT := .venv/.ready-light
PIP := $(BIN)/python -m pip install --quiet --no-input --require-virtualenv

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: $(if $(wildcard $(FULL)),$(FULL),$(LIGHT)) ## Train, publish and serve one model at four hospitals, on this machine
	$(BIN)/hansa demo

test: setup servers ## Set up and run every test
	$(BIN)/pytest -q $(PYTEST_FLAGS)

setup: $(FULL) ## Everything for development, in .venv

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv

# What `hansa` runs with, without torch and the test tools.
$(LIGHT): requirements.txt requirements-build.txt pyproject.toml | $(BIN)/pip
	$(PIP) --require-hashes -r requirements.txt -r requirements-build.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(FULL): requirements-dev.txt pyproject.toml | $(BIN)/pip
	$(PIP) --require-hashes -r requirements-dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

system: ## Install the Debian packages that are missing: bubblewrap, postgresql, python3-venv
	@missing=""; \
	command -v bwrap >/dev/null || missing+=" bubblewrap"; \
	compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null || missing+=" postgresql"; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing+=" python3-venv"; \
	if [ -z "$$missing" ]; then echo "system: nothing is missing"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	else echo "system: missing, install as root: apt-get install$$missing" >&2; fi

servers: setup ## Build the servers that tests start, into the user's cache folder
	$(BIN)/python -m tests.servers install

lint: setup ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## Lint, and the fast tests
	$(BIN)/pytest -q -m "not integration and not e2e and not gpu and not slow" $(PYTEST_FLAGS)

fix: setup ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup ## Generate the node link's messages anew
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. common/wire/hansa_node.proto

# Hashes, no index: the lock is good for any mirror. requirements-build.txt is what builds the wheel.
LOCK := pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: ## Resolve the pinned requirements anew (with the uv of make setup)
	$(UV) $(LOCK) pyproject.toml --extra coordinator --extra node -o requirements.txt
	$(UV) $(LOCK) pyproject.toml --all-extras -c requirements.txt -o requirements-dev.txt
	$(UV) $(LOCK) - -c requirements-dev.txt -o requirements-build.txt <<<hatchling

wheelhouse: $(LIGHT) ## Collect what a machine without a network needs (deploy/wheelhouse.md)
	rm -rf .wheelhouse
	$(BIN)/python -m pip download --quiet --no-input --only-binary :all: --require-hashes -r requirements.txt -d .wheelhouse
	$(BIN)/python -m hatchling build -t wheel -d .wheelhouse
	cp requirements.txt .wheelhouse/

clean: ## Remove what was built and cached here (not .venv)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .wheelhouse
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
