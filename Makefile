# make run TORCH=gpu   takes torch with CUDA instead of the CPU build
# make run ARGS="--port 6000"   passes flags on to `chat-gateway demo`

PYTHON ?= python3
TORCH ?= cpu
ARGS ?=

ifeq ($(TORCH),cpu)
VENV := .venv
CONSTRAINTS := -c constraints/cpu.txt
else ifeq ($(TORCH),gpu)
VENV := .venv-gpu
CONSTRAINTS :=
else
$(error TORCH is '$(TORCH)'; allowed: cpu, gpu)
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help run test lint format proto

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## Start guard and gateway on the embedded models (fetched once)
	$(BIN)/chat-gateway demo $(ARGS)

test: $(VENV)/.installed-dev  ## Run all tests
	$(BIN)/guard-service models fetch
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev  ## Check style, types and the API definition
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/buf lint

format: $(VENV)/.installed-dev  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(VENV)/.installed-dev  ## Generate the protobuf code anew
	$(BIN)/python proto/generate.py

# The stamps make later runs quick; they are older than pyproject.toml when it changes.
$(VENV)/.installed: pyproject.toml constraints/cpu.txt | $(VENV)
	$(PIP) -e '.[model,evaluate,gateway]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints/cpu.txt | $(VENV)
	$(PIP) -e '.[model,evaluate,gateway,dev]'
	@touch $@ $(VENV)/.installed

$(VENV):
	$(PYTHON) -m venv $@
