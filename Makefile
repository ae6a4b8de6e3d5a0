# The two commands are `make run` and `make test`; each does all the set-up that is missing.
PYTHON ?= python3
ARGS ?=
VENV_PYTHON := .venv/bin/python
PYTEST := OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadgroup

.PHONY: help run test test-all setup check audit docs

help:  ## this list
	@awk -F ':  ## ' '/^[a-z-]+:  ## / { printf "make %-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run:  ## set up, then serve the page: make run ARGS="--host 0.0.0.0 --port 8000"
	@$(PYTHON) setup_env.py
	@$(VENV_PYTHON) app.py $(ARGS)

test:  ## set up, then run all but the slow tests
	@$(PYTHON) setup_env.py --dev
	$(PYTEST) -m "not slow" $(ARGS)

test-all:  ## set up, then run every test; CI does
	@$(PYTHON) setup_env.py --dev
	$(PYTEST) $(ARGS)

setup:  ## only the set-up, with what the tests need
	@$(PYTHON) setup_env.py --dev

docs:  ## write docs/python-api.md from the docstrings
	@$(PYTHON) setup_env.py --dev
	$(VENV_PYTHON) docs/python_api.py

check:  ## lint and types
	@$(PYTHON) setup_env.py --dev
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy sdsdemo app.py setup_env.py

audit:  ## look for known vulnerabilities in the installed packages (needs the network)
	@$(PYTHON) setup_env.py --dev
	@$(VENV_PYTHON) -m pip install --quiet pip-audit
	@$(VENV_PYTHON) -m pip_audit --local --skip-editable || \
		{ echo "make audit: if no package is named above, the database of advisories could not be reached."; exit 1; }
