SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help setup lint test faults explore canary bench day demo follow docs helm images lock audit sbom licenses clean

BIN := .venv/bin
# what the targets bench, day and demo pass on: make bench ARGUMENTS="--events 20000"
ARGUMENTS ?=

help: ## Show this
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Make .venv with everything in it, or bring it up to date
	@deploy/setup.sh

lint: setup ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## Style, types and all tests, those on real servers too; SUNBIRD_TEST_STACK=.stack uses a stack that is up
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow_faults and not chart and not follow and not images"

faults: setup ## Every fault, in full: servers stopped and killed while jobs run
	$(BIN)/pytest tests/faults

explore: setup ## The tests of properties with examples that are new each time; ARGUMENTS=--hypothesis-seed=1 for the same again
	$(BIN)/pytest -n 2 --dist loadgroup -m "hypothesis and not slow_faults" --hypothesis-profile=default tests/unit tests/pipelines $(ARGUMENTS)

canary: setup ## The unit and job tests with a newer Beam than the pinned one; ARGUMENTS=2.77.0
	deploy/canary.sh $(ARGUMENTS)

bench: setup ## Speed and memory of a job on the local stack
	$(BIN)/python -m tests.bench $(ARGUMENTS)

day: setup ## A day of 100,000 mixed events on real servers, cut into batches twice: the same to the byte
	$(BIN)/python -m tests.day $(ARGUMENTS)

demo: setup ## A learner's journey on the local stack
	$(BIN)/sunbird-pipelines demo $(ARGUMENTS)

follow: setup ## The documents as a reader follows them: every command, on a stack of its own at the usual ports
	$(BIN)/pytest tests/documents

docs: setup ## The documents as pages, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

helm: setup ## The chart by Helm 3 and kubeconform too, which Go builds; minutes the first time
	$(BIN)/pytest tests/deploy/test_helm.py

images: setup ## The images and compose.yaml for real, by Podman over stand-in bases; needs root, 10 GB and time
	$(BIN)/pytest tests/deploy/test_containers.py

lock: setup ## The packages of the images' Python, anew from setup.py; ARGUMENTS=--upgrade takes newer ones
	deploy/docker/lock.sh $(ARGUMENTS)

audit: setup ## Known vulnerabilities of the locked packages; fails where the index does not say
	deploy/docker/supply_chain.sh audit

sbom: setup ## What the images are made of, as CycloneDX: build/sbom-python.json, build/sbom-java.json
	deploy/docker/supply_chain.sh sbom

licenses: setup ## The list of the packages' licenses, anew: deploy/docker/licenses.md
	deploy/docker/supply_chain.sh licenses

clean: ## End the local stack, and delete its data and what builds and tests left; .venv stays
	@if [ -d .stack ]; then for state in .stack/stack.json .stack/*/stack.json; do if [ -f "$$state" ]; then \
		$(BIN)/python -m deploy.local down --dir "$$(dirname "$$state")" || exit 1; fi; done; fi
	rm -rf .stack build dist *.egg-info deploy/java/target .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
