# `make` lists what there is. ARGS goes on to the command: make test ARGS="-k ingest", make demo ARGS=--no-serve
PYTHON ?= python3
ARGS ?=
# Test processes side by side, a file's tests in one of them: one for each core, at most 4 (each needs 3 GB). WORKERS=0
# runs the tests in make's own process, which a debugger needs.
WORKERS ?= logical

VENV := .venv/bin
SIDE_BY_SIDE := -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
CODE := configs warehouse components serving pipelines api monitoring

.DEFAULT_GOAL := help
.PHONY: help setup environment peers demo test test-unit test-reference compose-test secrets lint format bench docs pictures audit lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## make the environment .venv (every other target does, when it has to)
	@$(PYTHON) constraints/setup.py

# Instant when .venv is complete: setup.py compares its stamp with the lock files. A file's age would say too little.
environment:
	@$(PYTHON) constraints/setup.py --quiet

peers: ## make .venv-peers with the detectors that the benchmark compares with (3 GB)
	@$(PYTHON) constraints/setup_peers.py

demo: environment ## the whole path on real ECG, then the API on 127.0.0.1:8000 (ARGS=--no-serve ends before)
	$(VENV)/python -m pipelines.demo $(ARGS)

test: environment ## all tests; ECG_MITDB_DIR=FOLDER adds those on MIT-BIH records
	$(VENV)/python -m pytest $(SIDE_BY_SIDE) -m "unit or integration or e2e" $(ARGS)
	@echo '[test] next: make demo shows the platform at work; make test-reference runs the tests on Python 3.13 and TFX 1.21'

test-unit: environment ## the tests that need no server, in about a minute
	$(VENV)/python -m pytest $(SIDE_BY_SIDE) tests/unit -m unit $(ARGS)

test-reference: ## all tests in the reference image, Dockerfile.pipeline (needs a Docker engine)
	@tests/in_reference_image.sh $(SIDE_BY_SIDE) $(ARGS)

compose-test: environment ## the stack of docker-compose.yml, used, hurt and restarted (needs a Docker engine)
	@tests/compose_test.sh $(ARGS)

secrets: ## make .env and the secrets that docker-compose.yml asks for, where they are missing
	@configs/new_secrets.sh

lint: environment ## ruff, mypy --strict, import-linter
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy $(CODE)
	$(VENV)/lint-imports

format: environment ## let ruff format the code and fix what it can
	$(VENV)/ruff check --fix-only --quiet .
	$(VENV)/ruff format .

bench: environment ## how fast this machine is, each figure beside a peer or a limit (after make demo)
	$(VENV)/python -m pipelines.benchmark_speed $(ARGS)

docs: environment ## write docs/data-dictionary.md, docs/configuration.md and configs/default.yaml from the code
	$(VENV)/python -m warehouse.store.dictionary
	$(VENV)/python -m configs.document

pictures: environment ## take the pictures of docs/images anew (after make demo; needs a Chromium)
	PYTHONPATH=. $(VENV)/python tests/pictures.py $(ARGS)

audit: environment ## SBOMs (CycloneDX) of the lock files in build/sbom/, then known vulnerabilities from PyPI (ARGS=--sbom-only)
	$(VENV)/python constraints/audit.py $(ARGS)

lock: environment ## resolve the lock files in constraints/ anew (ARGS=--upgrade takes newer versions)
	$(VENV)/python constraints/lock.py $(ARGS)

clean: ## remove build/ and caches
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) constraints tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environments and .data with its databases and models
	rm -rf .venv .venv-audit .venv-peers .venv-tools .data
