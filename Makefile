# Words to remember; each sets up .venv by itself, with uv where it is installed and with pip elsewhere.
#
#   make demo     a project in build/demo on the embedded microworld: the sets, a chain of training, its evaluation
#   make data     the line of data alone, in the same place; needs no torch
#   make review   Argilla on this machine, to review what was made there
#   make test     the tests; make test-full: those that want Argilla's server or a browser;
#                 make test-long: attacks, faults and kills that take minutes;
#                 make test-vllm: against the real vLLM on this CPU (Linux on x86-64; 3 GB of memory and 3 of disk)
#                 make test-trainers: LLaMA-Factory's and verl's own loaders on our exports
#   make check    formatting, lint, types, and the bookkeeping of names, links and imports
#   make docs     docs/params.md and docs/data_model.md, from the docstrings of settings and records
#
# Another interpreter (3.11 to 3.13): make test PYTHON=python3.12. Without a GPU on Linux, CPU builds of torch save
# gigabytes: make test PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(filter $(PYTHON_VERSION),3.11 3.12 3.13),)
$(error Python 3.11, 3.12 or 3.13 is needed, `$(PYTHON)` is $(or $(PYTHON_VERSION),not there). Name another: make $(MAKECMDGOALS) PYTHON=python3.12)
endif
# What is installed in $(VENV), and for which Python: another one makes the environment again.
INSTALLED := $(VENV)/.installed-$(PYTHON_VERSION)
export PATH := $(abspath $(VENV))/bin:$(PATH)
# Folders with wheels that pip is configured to look into; uv does not read pip's settings.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export UV_EXTRA_INDEX_URL ?= $(PIP_EXTRA_INDEX_URL)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo announce-demo data review test test-full test-long test-vllm test-trainers check docs format \
  install-full clean

# A project as a user has it, apart from this clone, whose own files stay as they are.
IN_DEMO = ([ -e build/demo/params.yaml ] || coa init --demo build/demo) && cd build/demo && coa params conf/microworld.yaml

demo: announce-demo $(INSTALLED)-train
	$(IN_DEMO) && dvc repro && python -m curate.summary && python -m evaluation.summary
	@echo "All of it is in build/demo."

announce-demo:
	@echo "The demo takes about 12 minutes on 2 free cores, 20 on busy ones. It downloads 0.45 GB with CPU builds of"
	@echo "torch (the note in the head of the Makefile) and several GB without. It needs 2.6 GB of disk, and no keys."

data: $(INSTALLED)-base
	$(IN_DEMO) && dvc repro report render && python -m curate.summary
	@echo "All of it is in build/demo."

review: $(INSTALLED)-review
	$(IN_DEMO) && python -m annotate.serve

# The tests of a file stay in one process, which makes what they share once. Files start in the order of
# tests/conftest.py. Many tests wait for commands that they start, so there are more processes than CI has cores.
TEST_PROCESSES ?= 3
test: $(INSTALLED)-dev
	python -m pytest --ignore=tests/house --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder --durations=15

test-full: $(INSTALLED)-full
	@python -c "from annotate.environment import server_python; server_python()"
	python -m pytest --full -m full

test-long: $(INSTALLED)-full
	python -m pytest --long -m long --timeout=1800

test-vllm: $(INSTALLED)-dev
	python -m scripts.vllm_cpu
	python -m pytest --vllm -m vllm --timeout=1200

# These need other versions than we do, so they have an environment of their own.
TRAINERS := $(VENV)-trainers
test-trainers: $(INSTALLED)-dev
	[ -x $(TRAINERS)/bin/python ] || $(PYTHON) -m venv $(TRAINERS)
	$(TRAINERS)/bin/pip install --quiet 'llamafactory==0.9.5' 'torch==2.11.*' 'transformers>=5.5.3,<5.6' \
	  'tensordict<=0.10' 'ray>=2.41' codetiming hydra-core
	$(TRAINERS)/bin/pip install --quiet --no-deps 'verl==0.9.1'
	COA_TRAINERS_PYTHON=$(abspath $(TRAINERS)/bin/python) python -m pytest -m trainers tests/test_export_trainers.py

check: $(INSTALLED)-dev
	ruff format --check .
	ruff check .
	mypy
	python -m pytest tests/house -q

docs: $(INSTALLED)-dev
	python -m scripts.settings_reference
	python -m scripts.columns_reference
	python -m coa.params conf/microworld.yaml

format: $(INSTALLED)-dev
	ruff format .
	ruff check --fix .

install-full: $(INSTALLED)-full

$(INSTALLED)-base: pyproject.toml constraints.txt
	$(call install,.)

$(INSTALLED)-train: pyproject.toml constraints.txt
	$(call install,.[train])
	@touch $(INSTALLED)-base

$(INSTALLED)-review: pyproject.toml constraints.txt
	$(call install,.[review])
	@touch $(INSTALLED)-base

$(INSTALLED)-full: pyproject.toml constraints.txt
	$(call install,.[train$(comma)tools$(comma)review$(comma)publish$(comma)browser$(comma)dev])
	@touch $(INSTALLED)-base $(INSTALLED)-train $(INSTALLED)-review $(INSTALLED)-dev

$(INSTALLED)-dev: pyproject.toml constraints.txt
	$(call install,.[train$(comma)tools$(comma)review$(comma)publish$(comma)dev])
	@touch $(INSTALLED)-base $(INSTALLED)-train $(INSTALLED)-review

comma := ,

# An environment of another Python is replaced; a folder that is no environment is left alone.
define install
	@if [ -f $(VENV)/pyvenv.cfg ] && ! [ -e $(VENV)/bin/python$(PYTHON_VERSION) ]; then \
	  echo "$(VENV) belongs to another Python than $(PYTHON_VERSION): it is made again"; rm -rf $(VENV); \
	fi
	@if command -v uv >/dev/null 2>&1; then \
	  { [ -x $(VENV)/bin/python ] || uv venv --quiet --python $(PYTHON) $(VENV); } && \
	  uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python -c constraints.txt -e "$(1)"; \
	else \
	  { [ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV); } && \
	  $(VENV)/bin/python -m pip install --quiet -c constraints.txt -e "$(1)"; \
	fi
	@touch $@
	@echo "installed: source $(VENV)/bin/activate"
endef

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
