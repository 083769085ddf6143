# Words to remember; each sets up .venv by itself, with uv where it is installed and with pip elsewhere.
#
#   make demo     all of `dvc repro` on the embedded microworld: the sets, a chain of training on them, its evaluation
#   make data     the line of data alone; needs no torch
#   make review   Argilla on this machine, to review what was made
#   make table    every row of the paper's table for one seed (table.mk)
#   make test     the tests; make test-full: those that want Argilla's server or a browser;
#                 make test-long: attacks, faults and kills that take minutes
#   make check    formatting, lint and types
#   make deps     the code that each stage runs, written into dvc.yaml
#
# Another interpreter (3.11 to 3.13): make test PYTHON=python3.12. Without a GPU on Linux, CPU builds of torch save
# gigabytes: make test PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
# Folders with wheels that pip is configured to look into; uv does not read pip's settings.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export UV_EXTRA_INDEX_URL ?= $(PIP_EXTRA_INDEX_URL)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo data review test test-full test-long check deps format clean

demo: $(VENV)/.installed-train
	dvc repro
	@python -m curate.summary
	@cat results/table.md

data: $(VENV)/.installed-base
	dvc repro report render
	@python -m curate.summary

review: $(VENV)/.installed-review
	python -m annotate.serve

test: $(VENV)/.installed-dev
	python -m pytest

test-full: $(VENV)/.installed-full
	@python -c "from annotate.environment import server_python; server_python()"
	python -m pytest --full -m full

test-long: $(VENV)/.installed-full
	python -m pytest --long -m long --timeout=1800

check: $(VENV)/.installed-dev
	ruff format --check .
	ruff check .
	mypy

deps: $(VENV)/.installed-dev
	python -m scripts.code_dependencies

format: $(VENV)/.installed-dev
	ruff format .
	ruff check --fix .

$(VENV)/.installed-base: pyproject.toml constraints.txt
	$(call install,.)

$(VENV)/.installed-train: pyproject.toml constraints.txt
	$(call install,.[train])
	@touch $(VENV)/.installed-base

$(VENV)/.installed-review: pyproject.toml constraints.txt
	$(call install,.[review])
	@touch $(VENV)/.installed-base

$(VENV)/.installed-full: pyproject.toml constraints.txt
	$(call install,.[train$(comma)tools$(comma)review$(comma)publish$(comma)browser$(comma)dev])
	@touch $(VENV)/.installed-base $(VENV)/.installed-train $(VENV)/.installed-review $(VENV)/.installed-dev

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	$(call install,.[train$(comma)tools$(comma)review$(comma)publish$(comma)dev])
	@touch $(VENV)/.installed-base $(VENV)/.installed-train $(VENV)/.installed-review

comma := ,

define install
	@if command -v uv >/dev/null 2>&1; then \
	  { [ -x $(VENV)/bin/python ] || uv venv --quiet --python $(PYTHON) $(VENV); } && \
	  uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python -c constraints.txt -e "$(1)"; \
	else \
	  { [ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV); } && \
	  $(VENV)/bin/python -m pip install --quiet -c constraints.txt -e "$(1)"; \
	fi
	@touch $@
endef

include table.mk

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
