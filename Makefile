# make forecast   forecast the sample brain; sets up what it needs
# make forecast-picture  the same, as the picture in the README
# make test       run every test;          sets up what it needs
# make lint       ruff and mypy
# make benchmark  print measured ratios, seconds and bytes
# make registration-benchmark  how well the motion between two scans is found, beside demons and ANTs
# make fold-survey  fifty forecasts of different people: does any image fold?
# make real-data  forecasts and regions of real scans beside what is known of them
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/set-up

.PHONY: setup forecast forecast-picture test lint benchmark registration-benchmark fold-survey clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Neuro4D needs Python 3.10, 3.11, 3.12 or 3.13 with venv; none was found. Name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[reports,training,evaluation,harmonization,cluster,slicer-tests,tests]'
	$(BIN)/python -m pip install --quiet --no-deps digital-diffeomorphism==1.1.1
	@touch $@

forecast: $(STAMP)
	$(BIN)/python -m neuro4d_lib sample --output build/sample.nii.gz
	$(BIN)/python -m neuro4d_lib forecast build/sample.nii.gz --age 74 --sex F --education 16 --apoe4 1 --diagnosis MCI \
		--years 1 2 3 5 --futures 4 --output out --overwrite

forecast-picture: forecast
	cp out/forecast.png docs/pictures/forecast_mni152.png

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include Testing/slicer.mk
include Testing/real_data/real_data.mk

fold-survey: $(STAMP)
	$(BIN)/python Testing/fold_survey.py

benchmark: $(STAMP)
	$(BIN)/python Testing/benchmark.py

PAIRS ?= 10
registration-benchmark: $(STAMP)
	$(BIN)/python Testing/registration_benchmark.py --pairs $(PAIRS) --output docs/benchmark/registration

clean:
	rm -rf $(VENV) build out
