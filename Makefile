# make demo   install, and train the main example on 4 ranks
# make test   install, and run every check
# Needs Python 3.11 or newer and make; MPI comes as a wheel. Options: PYTHON=python3.12 VENV=.venv

IS_NEW := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
            $$name $(IS_NEW) 2>/dev/null && echo $$name && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
MPIRUN ?= $(BIN)/mpirun --oversubscribe --bind-to none --timeout 600

# one thread per rank: ranks are the parallelism
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
# Open MPI: run as root in a container, and start without probing for networks
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export OMPI_MCA_pml := ob1
export OMPI_MCA_btl := ^ofi,uct
export OMPI_MCA_osc := ^ucx

.PHONY: demo test check unit mpi clean

demo: $(VENV)/.demo
	$(BIN)/flowcore run -n 4 examples/digits.py --data 2 --model 2

test: check unit mpi

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/python tools/link_tree.py
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -q --poison --numprocesses auto --dist worksteal

mpi: $(VENV)/.dev
	set -e; for ranks in 2 3 4; do \
	  echo "== $$ranks ranks"; \
	  $(MPIRUN) -n $$ranks $(BIN)/python -m pytest -q --with-mpi tests/mpi; \
	done

$(VENV)/bin/python:
	@$(or $(PYTHON),false) $(IS_NEW) || \
	  { echo "no Python 3.11 or newer found: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[mpi,examples]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(VENV)/.demo $@

clean:
	rm -rf $(VENV) build *.egg-info
