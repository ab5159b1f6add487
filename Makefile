# vidlmm: everything starts here. Needs make and Python 3.11 or newer, nothing else.
#   make quickstart            the main job, from generated videos to a trained model that answers
#   make test                  the unit tests
#   make test PYTHON=python3.12 VENV=.venv312
PYTHON ?= python3
VENV ?= .venv
PARITY ?= .venv-parity
COMPILES ?= .venv-compiles
BIN := $(VENV)/bin
TEST_WORKERS ?= 2
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help quickstart test faults recipes parity compiles lint style types imports format wheel requirements clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo "  Variables: PYTHON=$(PYTHON) VENV=$(VENV) TEST_WORKERS=$(TEST_WORKERS) ARGS='further arguments'"

quickstart: $(VENV)/.runtime ## install, then run the main job (ARGS="--smoke" for the shortest form)
	$(BIN)/vidlmm quickstart $(ARGS)

test: $(VENV)/.dev ## install, then run the unit tests (ARGS="tests/media -x" for a part of them)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(ARGS)

faults: $(VENV)/.dev ## the tests that kill a running job and resume it
	$(BIN)/python -m pytest -m faults $(ARGS)

recipes: $(VENV)/.dev ## train every recipe at toy size
	$(BIN)/python -m pytest -m recipes $(or $(ARGS),tests/train/test_recipes.py)

parity: ## install with torch and transformers beside it, then send models there and back
	@$(MAKE) --no-print-directory VENV=$(PARITY) $(PARITY)/.parity
	$(PARITY)/bin/python -m pytest -n $(TEST_WORKERS) $(or $(ARGS),tests/transformers)

compiles: ## install with the compilers of TPUs and GPUs beside it, then compile for chips that need not be here
	@$(MAKE) --no-print-directory VENV=$(COMPILES) $(COMPILES)/.compiles
	JAX_PLATFORMS=cpu $(COMPILES)/bin/python -m pytest -m compiles -n $(TEST_WORKERS) $(or $(ARGS),tests/plan tests/kernels)

lint: style types imports ## style, types and the import contract (make -k lint goes on after a failure)

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(VENV)/.dev ## build dist/*.tar.gz and, from it, dist/*.whl; then look at what is inside
	rm -rf build dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m pytest tests/packaging -m wheel

requirements: ## resolve requirements/*.txt anew (needs uv)
	@for file in runtime dev; do \
	  extra=; [ $$file = runtime ] || extra='--extra dev -c requirements/runtime.txt'; \
	  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-header --no-emit-index-url $$extra pyproject.toml requirements/build.in -o requirements/$$file.txt && \
	  { echo '# Made by `make requirements` from pyproject.toml; do not edit.'; cat requirements/$$file.txt; } \
	    > requirements/.new && mv requirements/.new requirements/$$file.txt || exit 1; \
	done

clean: ## remove what was installed and built here (runs/ stays)
	rm -rf $(VENV) $(PARITY) $(COMPILES) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vidlmm needs Python 3.11 or newer, but '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1 || true). Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing vidlmm and its requirements into $(VENV) (once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing the tools for tests and checks into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.parity: $(VENV)/.dev requirements/parity.txt
	@echo "Installing torch and transformers into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/parity.txt
	@touch $@

$(VENV)/.compiles: $(VENV)/.dev requirements/compiles.txt
	@echo "Installing the compilers of accelerators into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/compiles.txt
	@touch $@
