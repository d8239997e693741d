# make demo, make test: both set up .venv first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test clients lint format clean
demo: $(VENV)/installed
	$(RUN) -m scripts demo

test: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

# releases in MONAI Label (with Orthanc, from apt) and MONAI Deploy, each in an environment of its own: docs/clients.md; takes minutes
clients: $(VENV)/installed-dev .venv-label/installed .venv-deploy/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m client tests/clients

.venv-label/installed: tests/clients/requirements-label.txt
	test -x .venv-label/bin/python || $(PYTHON) -m venv .venv-label
	.venv-label/bin/python -m pip install -r $<
	touch $@

# the application is code of this repository; MONAI Label runs on what a release holds
.venv-deploy/installed: tests/clients/requirements-deploy.txt pyproject.toml
	test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install -r $<
	.venv-deploy/bin/python -m pip install --no-deps -e .
	touch $@

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
