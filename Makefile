# make demo | test | format | lint | types | clean
#
# Nothing but make and Python 3.11, 3.12 or 3.13 is needed: everything else goes into .venv, once,
# and again only after pyproject.toml changed.
#
#   make test PYTHON=/path/to/python3.12      which Python makes .venv
#   make test PYTEST_FLAGS="-k import -x"     more flags for pytest
#   make format FORMAT_FLAGS=--check          look, do not touch
#   make clean                                also .venv; never runs/

VENV ?= .venv
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$python && break; done)
PYTHON_VENV := $(VENV)/bin/python

.PHONY: help demo test format lint types clean
.NOTPARALLEL:

help:
	@head -n 9 $(firstword $(MAKEFILE_LIST)) | cut -c 3-

demo: $(VENV)/.demo
	$(PYTHON_VENV) -m artifygan_jax.demo --workdir=runs/demo

test: $(VENV)/.test
	$(PYTHON_VENV) -m pytest -n 2 $(PYTEST_FLAGS)

format: $(VENV)/.test
	$(PYTHON_VENV) -m ruff format $(FORMAT_FLAGS) .

lint: $(VENV)/.test
	$(PYTHON_VENV) -m ruff check .

types: $(VENV)/.test
	$(PYTHON_VENV) -m pyright

clean:
	rm -rf $(VENV) build dist .cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Asks for pip, not for the folder: without ensurepip `python -m venv` fails half-way.
define install
@test -x $(VENV)/bin/pip || $(or $(PYTHON),false) -c '$(SUPPORTED)' || { \
  echo "needs Python 3.11, 3.12 or 3.13; say where: make PYTHON=/path/to/python3.12" >&2; exit 1; }
test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
$(PYTHON_VENV) -m pip install --disable-pip-version-check --editable '.[$(EXTRAS)]'
@touch $@
endef

$(VENV)/.demo: EXTRAS = prepare
$(VENV)/.demo: pyproject.toml
	$(install)

$(VENV)/.test: EXTRAS = test,oracle
$(VENV)/.test: pyproject.toml
	$(install)
	@touch $(VENV)/.demo
