# `make quickstart` and `make test` print the plain pip and python commands that they run.
# VENV=folder chooses the environment; what is in it is reused while pyproject.toml and constraints.txt stand.

VENV ?= .venv
PYTHON ?= python3
RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip install --quiet -c constraints.txt

# Two workers with one thread each use two cores better than one worker with two.
TEST = OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2

.PHONY: quickstart test test-all lint docs bench

quickstart: $(VENV)/.installed
	$(RUN) examples/quickstart.py

test: $(VENV)/.installed-test
	$(TEST) -m "not slow"

test-all: $(VENV)/.installed-all
	$(TEST)

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m pyright --pythonpath $(RUN)

docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx -W --keep-going docs docs/_build/html

bench: $(VENV)/.installed-bench
	set -e; for script in $$(ls benchmarks/*.py | grep -v -e harness.py -e peers.py -e published_gfno.py -e incomplete_cholesky.py); do $(RUN) $$script; done

$(RUN):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(RUN)
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(RUN)
	$(INSTALL) -e ".[$*]"
	@touch $@
