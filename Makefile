PYTHON ?= python3
PY := .venv/bin/python
export OMP_NUM_THREADS ?= 1

.PHONY: help setup test check
help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: .venv/ready  ## make .venv with everything that the page and the tests need

.venv/ready: requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sdsdemo needs Python 3.11 or newer: make PYTHON=python3.11 setup"; exit 1; }
	@echo "1 of 2: virtual environment"; test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "2 of 2: packages (minutes, about 6 GB)"; $(PY) -m pip install -q -r requirements-dev.txt -c constraints.txt
	@touch $@

test: setup  ## set up, then run every test
	$(PY) -m pytest -n 2

check: setup  ## lint and types
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy sdsdemo app.py
