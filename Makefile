# Everything runs from a virtual environment in this folder; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait more than they work: one more of them at a time than two cores would have.
WORKERS ?= 3
# A run that hangs ends with the stacks of what hung: a test by `faulthandler_timeout` in
# pyproject.toml, everything else by this.
LIMIT ?= 30m
BOUNDED = timeout --foreground --verbose --signal=ABRT --kill-after=30s $(LIMIT)
# Hundreds of processes import the same modules: compiled once, though the user wants no caches.
QUICKLY := PYTHONDONTWRITEBYTECODE=
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.lock pyproject.toml hatch_build.py npm/package-lock.json
	@echo "Setting up a virtual environment in $(VENV) (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Gatekeeper needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what the tests need (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@sh tests/install-system-packages
	@touch $@

$(VENV)/.installed-demo: requirements-demo.lock $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-demo.lock
	@touch $@

demo: $(VENV)/.installed ## the tour: a database login that is gone at its TTL, and the proof
	@$(BIN)/gk demo

demo-terminals: $(VENV)/.installed ## a command in a sandbox, gone at its deadline, and its recording verified
	@$(BIN)/gk demo terminals

demo-forwardauth: $(VENV)/.installed-demo ## a real nginx asks about five requests: who got what, and why
	@$(BIN)/python examples/basic/demo.py

up: $(VENV)/.installed ## run Gatekeeper on this machine to work with it
	@$(BIN)/gk up

test: $(VENV)/.installed-dev ## all tests (about 15 minutes on 2 cores)
	@$(QUICKLY) $(BOUNDED) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder -m "not slow" --cov --cov-report=term:skip-covered; \
	code=$$?; [ $$code -eq 1 ] || exit $$code; \
	echo "What failed beside other tests, once more and by itself:"; \
	$(QUICKLY) $(BOUNDED) $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none \
		&& $(BIN)/coverage report --format=total >/dev/null

test-slow: $(VENV)/.installed-dev ## the long lanes as well
	@$(QUICKLY) $(BIN)/python -m pytest -q -o faulthandler_timeout=3600

check: $(VENV)/.installed-dev ## format, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(VENV)/.installed-dev ## generate the pages of docs/reference that are made from the code
	@PYTHONPATH=tests $(BIN)/python -m published

bench: $(VENV)/.installed-dev ## measure create, ready and access cut beside a bare loop
	@$(BIN)/python -m benchmarks.databases

bench-forwardauth: $(VENV)/.installed-dev ## measure what a decision costs, from nginx alone to a backend's call
	@$(BIN)/python -m benchmarks.forwardauth

bench-gateway: $(VENV)/.installed-dev ## measure a proxied terminal beside nginx and HAProxy
	@$(BIN)/python -m benchmarks.gateway

bench-terminals: $(VENV)/.installed-dev ## measure terminals: click to first byte, starts a second, hundreds that live, how fast they are cut
	@$(BIN)/python -m benchmarks.terminals

lock: ## pin the dependencies anew
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 --group dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 --only-binary :all: --group pyproject.toml:demo -o requirements-demo.lock

clean: ## remove the virtual environment and all caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* .demo

.PHONY: help demo demo-terminals demo-forwardauth up test test-slow check docs bench bench-forwardauth bench-gateway bench-terminals lock clean
