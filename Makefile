# ByteChat's commands. `make help` lists them; CI and pre-commit call them too.

# The first Python that is 3.11 or newer.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

export HOST ?= 127.0.0.1

# Processes that run tests. One more than a small machine has cores, as many tests wait.
JOBS ?= 3

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/installed ## Set up everything and serve http://localhost:8080
	@$(BIN)/flask db upgrade
	@exec $(BIN)/gunicorn

.PHONY: test
test: .venv/installed-dev chromium ## Set up everything and run all tests
	@$(BIN)/pytest -n $(JOBS) --dist worksteal --cov --cov-report=term $(TESTS)

.PHONY: faults
faults: .venv/installed-dev ## Run the long form of the tests in which something goes wrong
	@$(BIN)/pytest --long --timeout=600 --durations=0 --durations-min=1 tests/faults $(FAULTS)

.PHONY: matrix
matrix: .venv/installed-dev ## Run the live tests over all databases, numbers of workers and buses
	@$(BIN)/pytest -n $(JOBS) --dist worksteal --matrix tests/live $(MATRIX)

.PHONY: lint
lint: .venv/installed-dev ## Check the style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: .venv/installed-dev ## Check the types
	@$(BIN)/mypy

.PHONY: bench
bench: .venv/installed-dev ## Measure ByteChat beside others, and write docs/performance.md
	@$(BIN)/python -m bench --write $(BENCH)

.PHONY: bench-quick
bench-quick: .venv/installed-dev ## The same in two minutes, smaller, writing nothing
	@$(BIN)/python -m bench --quick $(BENCH)

.PHONY: format
format: .venv/installed-dev ## Put the code in its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: chromium
chromium: .venv/installed-dev ## Install a Chromium for the browser tests, if there is none
	@tests/install_chromium.sh $(BIN)/playwright

.PHONY: clean
clean: ## Remove what the other commands made; your data in instance/ stays
	rm -rf .venv .bench .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/output

.venv/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "ByteChat needs Python 3.11 or newer."; exit 1; }
	@test -x $(BIN)/python || { echo "Making .venv ..."; $(PYTHON) -m venv .venv; }
	@echo "Installing what ByteChat runs on ..."
	@$(PIP) -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
