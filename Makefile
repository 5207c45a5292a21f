# `make demo` and `make test` set up what they need. PYTHON chooses another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SHELL := /bin/bash

# Tests that start Ray, or look at the whole machine.
ALONE := tests/integration/system tests/integration/test_fairness.py tests/integration/test_up_and_down.py \
  tests/integration/test_monitoring.py tests/e2e/test_demo.py tests/e2e/test_page_counts.py tests/chaos tests/gpu

.PHONY: help setup demo test test-all check-k8s k8s-local lint lock openapi clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(VENV)/.installed  ## make the virtual environment, locked versions

$(VENV)/.installed: requirements.lock pyproject.toml
	@scripts/system-packages libgl1 libglib2.0-0
	@scripts/system-packages libjemalloc2 || echo "without it memory grows for hours: docs/reliability.md" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "raysight needs Python 3.11 or newer: PYTHON=python3.11 make ..." >&2; exit 1; }
	@echo "installing raysight's Python packages into $(VENV): some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## run the main job here: DEMO_SECONDS=, API_PORT=, DASHBOARD_PORT=, STATE= (folder)
	@exec $(PY) -m serve_app.demo

lint: setup  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: setup lint  ## everything that fits into ten minutes on two cores
	@scripts/system-packages libgl1 libjemalloc2 chromium iproute2 nftables redis-server mosquitto mosquitto-clients kcat gir1.2-gst-rtsp-server-1.0 python3-gi prometheus gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav ffmpeg
	$(PY) -m pytest -m "not long" -n auto tests/unit tests/contracts tests/fuzz tests/k8s
	$(PY) -m pytest -m "not long" -n auto --dist loadfile $(ALONE:%=--ignore=%) tests/integration tests/e2e
	$(PY) -m pytest -m "not long" $(ALONE)

test-all: setup  ## what takes longer: the minute-long measurements of the main job
	$(PY) -m pytest -m long

k8s-local:  ## a cluster of kind on this machine with raysight in it; needs docker, kind, helm, kubectl
	@scripts/k8s-local

check-k8s: setup  ## the manifests, the Dockerfile and the documents about them; a part of `test`
	$(PY) -m pytest -m "not long" tests/k8s

openapi: setup  ## write the snapshot of the OpenAPI anew
	$(PY) -m tests.contracts.test_openapi

lock: setup  ## resolve the locked versions anew
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra dev pyproject.toml --output-file requirements.lock

clean:  ## remove the virtual environment and what tests left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
