# make forecast   forecast the sample brain; sets up what it needs
# make test       run every test;          sets up what it needs
# make lint       ruff and mypy
# make benchmark  print measured ratios, seconds and bytes
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/set-up

.PHONY: setup forecast test lint benchmark clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Neuro4D needs Python 3.10, 3.11, 3.12 or 3.13 with venv; none was found. Name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[reports,training,evaluation,slicer-tests,tests]'
	@touch $@

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include Testing/slicer.mk

clean:
	rm -rf $(VENV) build out
