# `make demo` and `make test` need nothing but Python >= 3.11: they make .venv themselves.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
RAY    := $(VENV)/.ray-installed
# One more than there are cores, as most tests wait for processes.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST  := $(PY) -m pytest -q -n $(WORKERS) --maxprocesses 8 --dist worksteal

# Hundreds of processes are started; with bytecode unkept each would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

# It takes a minute and a half, by itself.
KILLS   := tests/whole/test_restarts.py::test_a_manager_killed_at_any_moment_leaves_nothing_that_the_next_does_not_adopt_or_reap

.PHONY: demo test pages faults planted coverage check test-real test-ray test-gpu package images lock bench bench-policy mutants simulate-long soak clean

demo: $(VENV)/.demo-installed
	$(VENV)/bin/vllama demo

test: $(STAMP)
	$(PYTEST) --ignore=tests/faults --ignore=tests/simulation/test_mutants.py --ignore=tests/simulation/test_seeds.py \
	  --ignore=tests/ui --ignore=tests/docs/test_commands.py --deselect $(KILLS)

# What people see: the dashboard in a browser, and the commands of the guides, which do what is written there.
pages: $(STAMP)
	$(PYTEST) tests/ui tests/docs/test_commands.py

# Every fault of docs/faults.md once, at a random moment, and the manager killed twenty times.
faults: $(STAMP)
	$(PYTEST) tests/faults $(KILLS)

# Bugs planted in the planner, one at a time: its tests must catch each. And worlds in which there once were bugs.
planted: $(STAMP)
	$(PY) -m pytest -q -n 2 tests/simulation/test_seeds.py
	$(PY) -m pytest -q tests/simulation/test_mutants.py

# Of the rooms that decide, by their own tests. What runs in other processes does not count: neither do the mutants.
coverage: $(STAMP)
	$(PY) -m coverage run --branch --source vllama/domain,vllama/planner,vllama/controller -m pytest -q --timeout 600 \
	  tests/planner tests/controller tests/scenarios tests/simulation --ignore=tests/simulation/test_mutants.py
	@for room in domain planner controller; do \
	  $(PY) -m coverage report --include "vllama/$$room/*" --skip-covered --precision=1 --fail-under=95 || exit 1; done

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test-real: $(STAMP)
	bash tests/real/install.sh
	$(PY) -m pytest -q -m real tests/real tests/contract

# Three machines, made of namespaces on this one, with Ray on each: needs root and `ip`, and else is skipped and says why.
test-ray: $(RAY)
	$(PY) -m pytest -q -m ray tests/ray tests/runtime

# Runs where a GPU and vLLM are (VLLAMA_VLLM, or `vllm` on PATH); elsewhere every test is skipped and says why.
test-gpu: $(STAMP)
	$(PY) -m pytest -q -s -m gpu tests/gpu

# Wheel and source distribution in dist/, and the wheel tried in a fresh virtual environment (needs a package index).
package: $(STAMP)
	rm -rf dist
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
	$(PY) -m build --no-isolation --outdir dist . > /dev/null
	$(PY) -m pytest -q -m package tests/packaging

# An image for each version of vLLM: make images VLLM_TAGS="v0.32.0 latest" IMAGE=registry.example/vllama
DOCKER    ?= docker
IMAGE     ?= vllama
VLLM_TAGS ?= $(shell sed -n 's/^ARG VLLM_TAG=//p' Dockerfile)
images:
	@set -e; for tag in $(VLLM_TAGS); do \
	  echo "$(IMAGE):$$tag"; $(DOCKER) build --build-arg VLLM_TAG=$$tag -t $(IMAGE):$$tag .; done

# The newest versions that the suite is tested with; hashes of every file, so that no index has to be trusted.
COMPILE := $(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --custom-compile-command 'make lock' pyproject.toml
lock: | $(VENV)/bin/python
	$(PY) -m pip install -q --disable-pip-version-check 'uv>=0.9,<1'
	$(COMPILE) --upgrade --extra test --no-header --no-annotate -o $(VENV)/tested.txt
	$(COMPILE) --upgrade -c $(VENV)/tested.txt --generate-hashes --no-annotate -o requirements.lock
	$(COMPILE:pyproject.toml=--group build) --upgrade --generate-hashes --no-annotate -o requirements-build.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vllama needs Python >= 3.11; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-installed: pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.demo-installed

$(RAY): pyproject.toml | $(STAMP)
	$(PY) -m pip install -q --disable-pip-version-check -e '.[test,ray]'
	@touch $@

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

# Offline: the mutation score of the planner (hours; SAMPLE=100 for an estimate).
mutants: $(STAMP)
	$(PY) -m tests.simulation.mutants --score $(if $(SAMPLE),--sample $(SAMPLE))

# Offline: hours of simulated life, and plans by the million on simulated devices.
simulate-long: $(STAMP)
	$(PY) -m tests.simulation.plans --plans 1000000 --jobs 2
	$(PY) -m tests.simulation.run --events 10000000 --jobs 2

# Faults at random against real processes: make soak MINUTES=60 (SEED=7). docs/faults.md
soak: $(STAMP)
	$(PY) -m tests.faults.soak --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

# The gateway is compared with those of nginx, LiteLLM and mvllm that are installed; the others are left out, and named.
bench: $(STAMP)
	$(PY) -m tests.bench.planner
	$(PY) -m tests.bench.manager
	$(PY) -m tests.bench.told
	$(PY) -m tests.bench.gateway

# Who makes room: lru, cost and one who knows the future, over the same requests (docs/policy.md). Results stay in KEEP.
# make bench-policy QUICK=1; make bench-policy ARRIVALS=file.csv.gz
bench-policy: $(STAMP)
	$(PY) -m tests.bench.policy $(if $(QUICK),--quick) $(if $(ARRIVALS),--arrivals $(ARRIVALS)) $(if $(KEEP),--keep $(KEEP))
