.DEFAULT_GOAL := help
.PHONY: help setup init repro verify test quick lint licences report plots sbom audit bench requirements upgrade docs clean
SHELL := /bin/sh
BASE ?= main
JOBS ?= 1
PYTHON ?= python3
VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
# Bytecode is compiled once here: it halves the start of dvc and torch where PYTHONDONTWRITEBYTECODE is set, as containers do.
# Nothing is installed, or builds what is installed from source, but the files whose hashes are pinned.
UV := $(VENV)/bin/uv pip install --quiet --compile-bytecode --require-hashes --python
COMPILE := $(VENV)/bin/uv pip compile --universal --python-version 3.11 --quiet --no-header --no-annotate --generate-hashes

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

init: .venv/run.stamp  ## look at a folder and write its block into params.yaml: make init NAME=mine FOLDER=~/photographs
	python -m tools.init "$(NAME)" "$(FOLDER)" $(INIT)

repro: .venv/run.stamp  ## set up, then run whatever of the pipeline is out of date; JOBS=2: two datasets or trainings at once
	python -m stages.check  # before dvc, which puts the names into commands
	python -m tools.mend_lock
	python -m tools.repro --jobs $(JOBS)
	python -m tools.summary

verify: .venv/run.stamp  ## read raw data, outs and cache, and name what is not as dvc.lock says
	python -m tools.verify

test: .venv/dev.stamp lint  ## set up, then lint and run the tests, on all cores
	pytest -n auto

# To see which tests have become slow: pytest -n auto -m "not slow" --durations 30
quick: .venv/dev.stamp  ## the tests that are not marked slow: three minutes on two cores
	pytest -n auto -m "not slow"

lint: .venv/dev.stamp licences  ## ruff (lint and format), mypy, zizmor (GitHub's workflows) and licences
	ruff check .
	ruff format --check .
	mypy
	zizmor --offline --quiet .github

licences: .venv/dev.stamp  ## refuse a package that is not known to be under a permissive licence
	python -m tools.licences

setup: .venv/dev.stamp  ## make .venv with everything the pipeline and its tests need

report: .venv/dev.stamp  ## report.md: what changed since BASE (main), and whether it means anything
	python -m tools.report $(BASE) --markdown report.md --json report.json

plots: .venv/dev.stamp  ## plots.html: all curves and pictures as one page that needs no network
	python -m tools.plots

sbom: .venv/dev.stamp  ## sbom.cdx.json: the packages that the pipeline is made of, as CycloneDX
	python -m tools.sbom

audit: .venv/dev.stamp  ## ask the package index for known vulnerabilities of all pins: 3 if any, 1 if it can't be asked
	python -m tools.audit

bench: .venv-bench/bench.stamp  ## docs/performance.md: this pipeline timed against other libraries (BENCH="--groups data")
	.venv-bench/bin/python -m tools.bench $(BENCH)

requirements: .venv/run.stamp  ## pin what is new in pyproject.toml and leave all other pins; then requirements/<stage>.txt
	echo uv | $(COMPILE) $(UPGRADE) - -o requirements-uv.txt
	$(COMPILE) $(UPGRADE) pyproject.toml -o requirements.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt
	$(COMPILE) $(UPGRADE) pyproject.toml --extra dev --extra bench -c requirements-dev.txt -o requirements-bench.txt
	python -m tools.requirements

upgrade:  ## pin the newest versions of everything: stages rerun whose packages change
	$(MAKE) requirements UPGRADE=--upgrade

docs: .venv/run.stamp  ## docs/params.md and params.schema.json anew, after a change of stages/lib/params
	python -m tools.params

clean:  ## remove .venv and .venv-bench; data, models and metrics stay
	rm -rf .venv .venv-bench

# A stamp is newer than what it was made from, so that nothing is set up twice.
.venv/uv.stamp: requirements-uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

.venv/run.stamp: requirements.txt .venv/uv.stamp
	$(UV) $(VENV)/bin/python -b requirements.txt -r $<
	touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(UV) $(VENV)/bin/python -b requirements.txt -r $<
	touch $@

# In a venv of its own, so that what the pipeline is compared with never changes what it runs on.
.venv-bench/bench.stamp: requirements-bench.txt .venv/uv.stamp
	$(PYTHON) -m venv .venv-bench
	$(UV) .venv-bench/bin/python -b requirements.txt -r $<
	touch $@
