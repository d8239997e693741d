# make demo, make test: both set up .venv first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test lint format clean
demo: $(VENV)/installed
	$(RUN) -m scripts demo

test: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/installed-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# installed twice over (.venv is asked first) so that an interrupted installation is taken up again
$(VENV)/installed: requirements.txt pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -r requirements.txt
	$(RUN) -m pip install --no-deps -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(RUN) -m pip install -r requirements-dev.txt
	touch $@

# not runs/, where users train
clean:
	rm -rf demo build dist *.egg-info
