# `make demo` and `make test` do all their own set-up: a virtual environment in .venv, made again when pyproject.toml
# changes or the tree has moved. They need Python 3.11 or newer and a package index, nothing else.

.DEFAULT_GOAL := help
.PHONY: help demo test lint typecheck bench fuzz mutants model simulate kills chaos storms chains steps damage syscalls powerloss clean setup
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
JOBS   ?= 2
PYTEST ?=
BENCH  ?=
CASES  ?= 5000
MINUTES ?= 10
SEEDS  ?= 1000
EXAMPLES ?= 1000
TRIALS ?= 10000
STORMS ?= 10
ROUNDS ?= 100
KILLS  ?= 100
# Only directories with Python in them, because mypy refuses an empty one.
CODE   := $(foreach place,grafctl tests examples bench,$(if $(wildcard $(place)/*.py),$(place)))

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(READY) ## a provider migration on real orders, with an account of what happened
	@$(PY) examples/demo.py

test: lint typecheck ## everything a change must pass: ruff, mypy, pytest
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(PYTEST)

lint: $(READY) ## ruff: rules and formatting
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m ruff format --check $(CODE)

typecheck: $(READY) ## mypy: strict over grafctl
	@$(PY) -m mypy $(CODE)

bench: $(READY) ## speed, as ratios to raw py-lmdb, cp, PostgreSQL and Redis; BENCH="single batched" takes only these
	@$(PY) -m bench $(BENCH)

fuzz: $(READY) ## decoders, files, input and the command line with hostile bytes; EXAMPLES=5000 for each 100 of a normal run
	@EXAMPLES=$(EXAMPLES) $(PY) -m pytest -n $(JOBS) tests/fuzz

mutants: $(READY) ## every error of tests/mutants, each in a copy of the tree, and the test that catches it
	@cd tests && ../$(PY) -m mutants --jobs $(JOBS)

model: $(READY) ## the long run of the protocol explorer
	@cd tests && ../$(PY) -m model --long

simulate: $(READY) ## random histories of the whole store under faults; SEEDS=10000 plays so many, SEED=17 shows one, FLOW=1 those of a stage at work
	@cd tests && PYTHONPATH=.. ../$(PY) -m simulation $(if $(FLOW),--flow) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

kills: $(READY) ## directed kills, singly, in pairs and with a domain away; CASES=0 takes all there are
	@cd tests && PYTHONPATH=.. ../$(PY) -m faults.kills --cases $(CASES)

syscalls: $(READY) ## every system call of every command made to fail; SYSCALLS="--only publish --every 4" takes some
	@cd tests && PYTHONPATH=.. ../$(PY) -m faults.system_calls $(SYSCALLS)

powerloss: $(READY) ## power lost at every moment of every command; POWERLOSS="--only publish --every 4" takes some
	@cd tests && PYTHONPATH=.. ../$(PY) -m faults.power_losses $(POWERLOSS)

chaos: $(READY) ## storms over real processes, for MINUTES=10
	@cd tests && PYTHONPATH=.. ../$(PY) -m chaos --minutes $(MINUTES)

storms: $(READY) ## writers and readers of a table while a vshard is moved and its operators die, STORMS=10 times
	@STORMS=$(STORMS) $(PY) -m pytest -n $(JOBS) --dist worksteal tests/test_vshard_storm.py

chains: $(READY) ## four stages that edges link: each killed and each lease expired, ROUNDS=100 times, and as many storms of each kind
	@GRAFCTL_EDGE_ROUNDS=$(ROUNDS) GRAFCTL_STORMS=$(ROUNDS) $(PY) -m pytest -n $(JOBS) --dist worksteal tests/test_edges_pipeline.py tests/pipeline/test_link_storm.py

steps: $(READY) ## SIGKILL, KILLS=100 times in each step of leases, edges, switches, two operators at once, and waves; prints the counts
	@EDGE_KILLS=$(KILLS) SWITCH_KILLS=$(KILLS) $(PY) -m pytest -rP -n $(JOBS) --dist worksteal tests/faults/test_edge_kills.py \
	  tests/faults/test_switching_kills.py tests/faults/test_switching_rivals.py tests/faults/test_wave_kills.py \
	  tests/faults/test_table_switch_kills.py

damage: $(READY) ## TRIALS=10000 of damaged files, over all cores; one prints its seed where it fails
	@cd tests && PYTHONPATH=.. ../$(PY) -m damage --trials $(TRIALS)

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(READY) ## only the virtual environment

# The stamp holds the directory it was made in: in a tree that was moved or copied, the editable install points elsewhere.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

# The first interpreter that runs, is new enough and can make a virtual environment. A PYTHON that was named is the only candidate.
ifeq ($(origin PYTHON),file)
CANDIDATES := $(PYTHON) python3.14 python3.13 python3.12 python3.11 python
else
CANDIDATES := $(PYTHON)
endif

$(READY): pyproject.toml
	@rm -f $@; found=; seen=; \
	for python in $(CANDIDATES); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  if ! $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then seen="$$seen $$python is $$version;"; continue; fi; \
	  if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then seen="$$seen $$python is $$version but has no venv and ensurepip;"; continue; fi; \
	  found=$$python; break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "grafctl needs Python 3.11 or newer with venv; found:$${seen:- no Python at all ($(CANDIDATES))}" >&2; \
	  echo "Install one (Debian and Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2; \
	  exit 1; \
	fi; \
	echo "setting up $(VENV) with $$found ($$version)" >&2; \
	$$found -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-input -e '.[dev]'
	@# pip compiles what it copies, but an editable install copies nothing; the first command must not pay for that.
	@$(PY) -m compileall -q grafctl
	@printf '%s' '$(CURDIR)' > $@
