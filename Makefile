# `make run` and `make test` need only Python 3.11 to 3.13, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The image: name, device, engine (podman or docker), and further arguments of the engine.
IMAGE ?= localhost/nas-python:test
DEVICE ?= cuda
ENGINE ?= $(shell command -v podman || command -v docker)
PYTHON_IMAGE ?=
BUILD_ARGS ?=
RUN_ARGS ?=

.PHONY: help install run test test-slow test-services lint type compile golden lock manifests-audit audit clean \
  image image-test image-sbom test-cluster

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python scripts/install.py $@

run: $(STAMP)  ## search, train, profile and register a network on real data (digits)
	@$(BIN)/nas run $(ARGS)

test: $(STAMP)  ## tests, except slow ones (docs/testing.md)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not timing" $(ARGS)

test-slow: $(STAMP)  ## outages, kills, complete runs on real servers, comparisons of times
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not timing" $(ARGS)
	@$(BIN)/python -m pytest -m timing $(ARGS)

test-services: $(STAMP)  ## test search and retraining on real PostgreSQL, S3 and MLflow servers
	@$(BIN)/python -m pytest tests/services $(ARGS)

lint: $(STAMP)  ## style, import contracts, plain words
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@found=$$($(BIN)/lint-imports 2>&1) || { echo "$$found"; exit 1; }
	@$(BIN)/python scripts/plain_words.py

type: $(STAMP)  ## check types
	@$(BIN)/mypy

compile: $(STAMP)  ## write the pipeline as KFP's IR YAML
	@$(BIN)/nas compile --out search_pipeline.yaml

golden: $(STAMP)  ## renew the golden files after an intended change
	@$(BIN)/python -m pytest tests/pipelines -k golden --renew-golden

lock: $(STAMP)  ## write requirements.lock from the installed packages
	@$(BIN)/pip freeze --all --exclude-editable --exclude pip \
	  | sed -E 's/^((nvidia|cuda)-[^=]+|triton)(==.*)$$/\1\3 ; platform_system == "Linux" and platform_machine == "x86_64"/' \
	  > requirements.lock

image:  ## build the image of the steps by podman or docker (docs/image.md)
	@test -n "$(ENGINE)" || { echo "make image needs podman or docker"; exit 2; }
	$(ENGINE) build --tag $(IMAGE) --build-arg DEVICE=$(DEVICE) \
	  $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) \
	  --build-arg GIT_REVISION=$$(git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null) \
	  $(BUILD_ARGS) .
	@$(ENGINE) images $(IMAGE)

image-test: $(STAMP)  ## test the image as several users, with a read-only root
	@NAS_TEST_CLUSTER=1 NAS_TEST_IMAGE=$(IMAGE) NAS_TEST_ENGINE="$(ENGINE)" \
	  $(BIN)/python -m pytest tests/image -rP $(ARGS)

test-cluster: $(STAMP)  ## complete pipelines on pods, as on Kubeflow, with faults (docs/testing.md)
	@$(ENGINE) image inspect $(IMAGE) >/dev/null 2>&1 || $(MAKE) image
	@NAS_TEST_IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/cluster --cluster $(ARGS)

image-sbom:  ## write the packages of the image in CycloneDX format: dist/sbom.cdx.json
	@mkdir -p dist
	@$(ENGINE) run --rm $(RUN_ARGS) $(IMAGE) cat /usr/share/nas/sbom.cdx.json > dist/sbom.part
	@mv dist/sbom.part dist/sbom.cdx.json && ls -l dist/sbom.cdx.json

# checkov is large and pins many packages, hence a separate environment. Images by tag are for trials: a
# node need not pull a tag that never moves (CKV_K8S_43, CKV_K8S_15); `prod` has digests.
CHECKOV := $(VENV)-audit/bin/checkov --framework kubernetes --skip-download --compact --quiet
manifests-audit: $(STAMP)  ## check the manifests with checkov, each overlay with all components
	@test -x $(VENV)-audit/bin/checkov \
	  || { $(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet checkov==3.3.30; }
	@$(BIN)/python tests/support/manifest_build.py $(VENV)-audit/manifests
	@$(CHECKOV) --directory $(VENV)-audit/manifests/digests
	@$(CHECKOV) --directory $(VENV)-audit/manifests/tags --skip-check CKV_K8S_43,CKV_K8S_15

# Strict: otherwise a package that the service does not know would pass.
audit: $(STAMP)  ## known vulnerabilities of the packages in requirements.lock (asks pypi.org)
	@test -x $(VENV)-pip-audit/bin/pip-audit \
	  || { $(PYTHON) -m venv $(VENV)-pip-audit \
	       && $(VENV)-pip-audit/bin/pip install --quiet pip-audit==2.10.1; }
	@$(VENV)-pip-audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

clean:  ## remove everything that was created, except runs
	rm -rf $(VENV) $(VENV)-audit $(VENV)-pip-audit build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
