# fedmesh: the public commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
# The lab has two clusters, CLUSTERS=3 gives it three: stack lab3. What is up stays what it is until `make lab-down`.
STACK ?= $(if $(CLUSTERS),lab$(filter-out 2,$(CLUSTERS)),$(or $(notdir $(basename $(wildcard .lab/lab*.yaml))),lab))
SIZE := $(if $(CLUSTERS),--clusters $(CLUSTERS))
QUIET := $(if $(filter q quiet,$(V)),-q,)
CODE := __main__.py components fedmesh policies testbed tests
EXISTING := $(wildcard $(CODE))
# what Python compiled is kept, also where the environment says otherwise: programs start seconds faster
export PYTHONDONTWRITEBYTECODE =

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

# --- set-up ---------------------------------------------------------------

# pip checks every hash; --no-deps since the locks are complete, which spares its resolver; --no-compile since
# most of what the cloud's packages hold is never imported
PIP := $(PYTHON) -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --require-hashes
COMPILE := $(VENV)/bin/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11

# three layers, each on top of the one before: what users of the program need, the test bed, and the development tools
$(VENV)/.runtime: requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fedmesh: python3 3.11 or newer is needed on PATH" >&2; exit 1; }
	@[ -x $(PYTHON) ] || python3 -m venv $(VENV) || { echo "fedmesh: python3 has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.testbed: $(VENV)/.runtime testbed/requirements.txt
	@$(PIP) -r testbed/requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.testbed requirements-dev.txt
	@$(PIP) -r requirements-dev.txt
	@$(PYTHON) -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: venv lock tools
venv: $(VENV)/.dev ## make the Python environment from the pinned requirements, with .venv/bin/fedmesh

lock: ## pin all requirements.in anew, with hashes and without index addresses
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) testbed/requirements.in -o testbed/requirements.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt

tools: $(VENV)/.testbed ## build the lab's programs, images and charts into the cache (about 25 minutes when it is empty)
	@$(PYTHON) -m testbed.lab preflight --install $(QUIET)
	@$(PYTHON) -m testbed.lab build $(QUIET)

# --- the lab --------------------------------------------------------------

.PHONY: lab lab-up lab-down lab-status lab-logs up unchanged destroy verify
lab: $(VENV)/.testbed ## everything: tools, clusters, `pulumi up`, verification (CLUSTERS=3; STACK=dev: with a simulated AWS)
	@$(PYTHON) -m $(if $(filter lab%,$(STACK)),testbed.lab.journey $(SIZE),testbed.sandbox lab) --stack $(STACK) $(QUIET)

lab-up: $(VENV)/.testbed ## start the lab's clusters (CLUSTERS=3)
	@$(PYTHON) -m testbed.lab preflight --install $(SIZE) $(QUIET)
	@$(PYTHON) -m testbed.lab up $(SIZE) $(QUIET)

lab-down: $(VENV)/.testbed ## stop the lab and leave nothing of it on the machine
	@$(PYTHON) -m testbed.lab down $(QUIET)

lab-status: $(VENV)/.testbed ## show the lab's clusters and programs
	@$(PYTHON) -m testbed.lab status

lab-logs: $(VENV)/.testbed ## show the lab's logs (CLUSTER=... PROGRAM=...)
	@$(PYTHON) -m testbed.lab logs $(CLUSTER) $(PROGRAM)

up: $(VENV)/.testbed ## bring STACK on the lab to its config
	@$(PYTHON) -m testbed.lab pulumi $(QUIET) --stack $(STACK) up

unchanged: $(VENV)/.testbed ## fail when `up` would change anything
	@$(PYTHON) -m testbed.lab pulumi $(QUIET) --stack $(STACK) unchanged

destroy: $(VENV)/.testbed ## remove all that STACK made
	@$(PYTHON) -m testbed.lab pulumi $(QUIET) --stack $(STACK) destroy

verify: $(VENV)/.runtime ## check the live mesh of STACK
	@$(PYTHON) -m fedmesh verify --stack $(STACK) $(QUIET)

# --- the AWS half ---------------------------------------------------------

.PHONY: sandbox policy controller checkov
sandbox: $(VENV)/.dev ## the life of the stacks dev and prod against a simulated AWS, with the real engine
	@$(PYTHON) -m testbed.lab preflight --install $(QUIET)
	@$(PYTHON) -m testbed.lab build --for-engine $(QUIET)
	@$(PYTHON) -m testbed.sandbox run --plans .sandbox/plans

policy: $(VENV)/.dev ## each rule of the policy pack, with good and bad cases, through the real engine too
	@$(PYTHON) -m testbed.lab preflight --install $(QUIET)
	@$(PYTHON) -m testbed.lab build --for-engine $(QUIET)
	@$(VENV)/bin/pytest tests/unit/test_policies.py tests/engine/test_policy_pack.py

controller: $(VENV)/.dev ## the AWS Load Balancer Controller itself against the simulated AWS (builds it when it is missing)
	@$(PYTHON) -m testbed.lab preflight --install $(QUIET)
	@$(PYTHON) -m testbed.lab build --for-engine --for-aws $(QUIET)
	@$(VENV)/bin/pytest testbed/tests/engine/test_load_balancer_controller.py

checkov: $(VENV)/.dev ## what checkov finds in the stacks dev and prod, against what docs/aws.md explains
	@$(PYTHON) -m testbed.sandbox findings .sandbox/plans

# --- figures --------------------------------------------------------------

.PHONY: bench bench-cold drill drill-ci drill-security verify-100 bench-sandbox
drill: $(VENV)/.testbed ## put faults to the lab's mesh under load; summary in docs/drills, full report in build/drills (an hour; RATE=20; DRILLS=peer-cut: no summary)
	@$(if $(DRILLS),,$(PYTHON) -m testbed.fedmesh latency --stack $(STACK) --docs docs/drills)
	@$(PYTHON) -m testbed.fedmesh drill $(or $(DRILLS),all) --stack $(STACK) $(if $(RATE),--rate $(RATE)) --baseline --docs build/drills $(if $(DRILLS),,--summary docs/drills)

drill-ci: $(VENV)/.testbed ## the short drills: an app, a gateway and the users' cluster lost; fails on a loss that must not be
	@$(PYTHON) -m testbed.fedmesh drill app-killed gateway users-cut --stack $(STACK) --rate 20 --before 5 --fault 20 --after 10

drill-security: $(VENV)/.testbed ## attack the lab's mesh; each attack must be refused
	@$(PYTHON) -m testbed.fedmesh attack --stack $(STACK)

verify-100: $(VENV)/.dev ## verify the healthy lab a hundred times: no false alarm (ten minutes; RUNS=20 for fewer)
	@RUNS=$(or $(RUNS),100) $(VENV)/bin/pytest -q -s tests/lab/verify_many.py

bench: $(VENV)/.testbed ## measure the lab and write docs/benchmarks.md (takes the lab down first; CLUSTERS=3: that section)
	@$(PYTHON) -m testbed.lab.bench $(SIZE)

bench-cold: $(VENV)/.testbed ## measure cold builds of the tools and add them to docs/benchmarks.md (half an hour)
	@$(PYTHON) -m testbed.lab.bench --cold

bench-sandbox: $(VENV)/.dev ## measure the AWS half and write its section of docs/benchmarks.md
	@$(PYTHON) -m testbed.sandbox bench

# in this order: the last one takes the lab down for good
# what needs a third cluster has a lab of its own
LAB_TESTS := $(if $(filter lab3,$(STACK)),join,refresh verify drain services authorization read_only security_drill down leaves_nothing)
# each check's faults, and the lab by itself: too long for every change; the last ends the lab and makes one of version 0.1
NIGHTLY_LAB_TESTS := verify_faults observability clusters added_latency renewals datastore oidc spire_configs upgrade

NIGHTLY_ENGINE_TESTS := defects database load_balancer_controller registry

# --- tests ----------------------------------------------------------------

.PHONY: config-docs image-digests lint format types test test-unit test-engine test-killed test-lab test-engine-nightly test-nightly
config-docs: $(VENV)/.runtime ## write docs/configuration.md, the JSON schema and the types in Pulumi.yaml from the settings
	@$(PYTHON) -m components.config.reference

format: $(VENV)/.dev ## format the code
	@$(VENV)/bin/ruff format $(EXISTING)
	@$(VENV)/bin/ruff check --fix $(EXISTING)

image-digests: $(VENV)/.runtime ## ask the registries for the images' digests and write components/config/images.yaml (CHECK=1: compare)
	@$(PYTHON) -m testbed.digests $(if $(CHECK),--check)

lint: $(VENV)/.dev ## check format, lint and the layers
	@$(VENV)/bin/ruff format --check $(EXISTING)
	@$(VENV)/bin/ruff check $(EXISTING)
	@$(VENV)/bin/lint-imports --no-cache

types: $(VENV)/.dev ## check types (strict on components/)
	@$(VENV)/bin/pyright

test-unit: $(VENV)/.dev ## unit tests: Python packages alone (three minutes)
	@$(VENV)/bin/pytest -n auto --dist loadfile tests/unit testbed/tests/unit

test-engine: $(VENV)/.dev ## the real engine and provider against one API server
	@$(PYTHON) -m testbed.lab preflight --install $(QUIET)
	@$(PYTHON) -m testbed.lab build --for-engine $(QUIET)
	@$(VENV)/bin/pytest -n 2 --dist loadfile tests/engine testbed/tests/engine $(addprefix --ignore testbed/tests/engine/test_,$(NIGHTLY_ENGINE_TESTS:=.py))

test-killed: $(VENV)/.dev tools ## `make lab`, killed at six points and run again; it starts from nothing and leaves the lab up
	@$(VENV)/bin/pytest tests/lab/test_killed.py

test-lab: $(VENV)/.dev ## end to end on the lab: verified, changed, destroyed, gone (CLUSTERS=3: joins, leaves)
	@$(VENV)/bin/pytest $(addprefix tests/lab/test_,$(LAB_TESTS:=.py))

test-engine-nightly: $(VENV)/.dev controller ## the long tests without a lab: AWS's controller, databases, a registry, defects of the AWS half put back
	@$(VENV)/bin/pytest $(addprefix testbed/tests/engine/test_,$(filter-out load_balancer_controller,$(NIGHTLY_ENGINE_TESTS:=.py)))

test-nightly: test-engine-nightly ## all long tests; on the running lab, each check's faults and the lab by itself
	@$(VENV)/bin/pytest $(addprefix tests/lab/test_,$(NIGHTLY_LAB_TESTS:=.py))

test: lint types test-unit test-engine ## lint, types, unit and engine tests
