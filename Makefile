# One line per command; everything real lives in the packages.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard services/*/pyproject.toml libs/*/pyproject.toml))
# compose: the same commands on docker-compose.yml, where a Docker engine is
export STACK ?= local

.DEFAULT_GOAL := setup
.PHONY: setup demo up down test faults conformance conformance-three conformance-one soak fuzz check scan audit bench lock locks docs format

setup: .venv/ready  ## make the virtual environment and install everything, editable

# The lock file pins versions and hashes; which index serves them is the machine's business.
# Compiled once here: without, every process of the stack would compile its libraries at each start.
.venv/ready: requirements.lock pyproject.toml $(MEMBERS:%=%/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	touch $@

demo: setup  ## start the stack if it is not up, load real data, query it
	$(BIN)/bigdata demo

up: setup  ## start the local stack
	$(BIN)/bigdata up

down: setup  ## stop it
	$(BIN)/bigdata down

test: setup  ## unit tests, then journeys on a stack of their own
	$(BIN)/python -m pytest

faults: setup  ## the long fault tests, one after the other
	$(BIN)/python -m pytest -m long

# On Apache Kafka, from Maven Central on Java 17: brokers that die, then everything that faces the broker.
conformance: conformance-three conformance-one
	KAFKA=apache $(BIN)/python -m pytest -m "long or not long" tests/journeys tests/failures tests/contracts/test_request_log.py

conformance-three: setup  ## three brokers, one of which dies
	KAFKA=apache3 $(BIN)/python -m pytest -m long tests/conformance/test_three_brokers.py

conformance-one: setup  ## one broker, killed and restarted
	KAFKA=apache $(BIN)/python -m pytest -m long tests/conformance/test_one_broker*.py

soak: setup  ## mixed load with random faults, then the count: SOAK_MINUTES=30 SOAK_SEED=random
	PYTHONPATH=tests $(BIN)/python -m soak

fuzz: setup  ## bytes and tables that nobody thought of, for readers, planner, parsers: FUZZ_SECONDS=120 FUZZ_SEED=1
	PYTHONPATH=tests $(BIN)/python -m fuzz
	$(BIN)/python -m pytest -m "hypothesis and not long" --hypothesis-profile=searching \
	    --hypothesis-seed=$${FUZZ_SEED:-1} tests/ingest tests/gateway tests/common tests/audit tests/client

check: setup  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services/*/src libs/*/src tests benchmarks

scan: setup  ## secrets in the tree that nobody has looked at
	PYTHONPATH=tests $(BIN)/python -m support.secrets_scan

audit: setup  ## known advisories against what is locked; AUDIT_REQUIRED=1 fails where they cannot be asked for
	PYTHONPATH=tests $(BIN)/python -m support.advisories

bench: setup  ## every benchmark, with its baseline in the same run
	$(BIN)/python -m benchmarks

docs: setup  ## write the pages that are made from code
	$(BIN)/python -m devstack.settings_page > docs/settings.md
	$(BIN)/python -m devstack.metrics_page docs/metrics.md
	$(BIN)/python -m devstack.rules_manifest > deploy/k8s/components/monitoring/rules.yaml
	PYTHONPATH=tests $(BIN)/python -m support.proof_page > docs/proof.md
	$(BIN)/python -m benchmarks.sizing

docs-command-line: setup  ## record docs/command-line.md again, from really running every command
	$(BIN)/python -m devstack.command_line_page > docs/command-line.md.new
	mv docs/command-line.md.new docs/command-line.md

format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup  ## resolve again to the newest versions and write the lock files
	$(BIN)/uv lock --upgrade
	$(MAKE) locks

EXPORT := $(BIN)/uv export --quiet --no-emit-workspace --format requirements-txt --no-header --no-annotate
IMAGE_LOCKS := deploy/docker/requirements

locks:  ## write what is resolved: one file for development, one for each image
	$(EXPORT) --all-packages --all-groups --output-file requirements.lock
	$(EXPORT) --only-group build --output-file $(IMAGE_LOCKS)/build.lock
	$(EXPORT) --package bigdata-gateway --no-default-groups --output-file $(IMAGE_LOCKS)/gateway.lock
	$(EXPORT) --package bigdata-credits --no-default-groups --output-file $(IMAGE_LOCKS)/credits.lock
	$(EXPORT) --package bigdata-ingest --no-default-groups --output-file $(IMAGE_LOCKS)/ingest-worker.lock
	$(EXPORT) --package bigdata-audit --no-default-groups --output-file $(IMAGE_LOCKS)/audit-logger.lock
