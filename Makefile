# make forecast   forecast the sample brain; sets up what it needs
# make forecast-picture  the same, as the picture in the README
# make trial-example    the simulated trial and the figures of docs/trials.md
# make test       run every test;          sets up what it needs
# make lint       ruff and mypy
# make benchmark  print measured ratios, seconds and bytes
# make registration-benchmark  how well the motion between two scans is found, beside demons and ANTs
# make application-pictures  the figures of docs/risk.md, what-if.md and populations.md
# make fold-survey  fifty forecasts of different people: does any image fold?
# make real-data  forecasts and regions of real scans beside what is known of them
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/set-up

.PHONY: setup forecast forecast-picture test lint benchmark registration-benchmark fold-survey clean application-pictures trial-example
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

trial-example: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m neuro4d_lib trial docs/examples/trial_ad.toml --output build/trial --workers 2 --overwrite
	cp build/trial/power.png docs/pictures/trial_ad_power.png
	cp build/trial/biomarkers.png docs/pictures/trial_ad_biomarkers.png

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

application-pictures: $(STAMP)
	rm -rf build/risk build/effects build/compare
	OMP_NUM_THREADS=1 $(BIN)/python -m neuro4d_lib risk --volumes docs/examples/volumes.csv --age 74 --sex F --diagnosis MCI \
		--threshold "hippocampus < -10%" --threshold "hippocampus < 5.5 ml" --threshold "lateral_ventricle > 8 %/year" --output build/risk
	OMP_NUM_THREADS=1 $(BIN)/python -m neuro4d_lib effects simulated:1500 --output build/effects
	OMP_NUM_THREADS=1 $(BIN)/python -m neuro4d_lib compare simulated:150:diagnosis=CN simulated:150:diagnosis=MCI:seed=1 --output build/compare
	cp build/risk/centiles.png docs/pictures/risk_centiles.png
	cp build/risk/next_scan.png docs/pictures/risk_next_scan.png
	cp build/effects/effects.png docs/pictures/effects.png
	cp build/compare/regions.png docs/pictures/compare_regions.png
	cp build/compare/maps.png docs/pictures/compare_maps.png

clean:
	rm -rf $(VENV) build out
