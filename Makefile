# `make help` lists the targets; a line with two hashes above a target is its description.
PYTHON ?= $(shell for v in 3.13 3.14 3.12 3.11 3; do python$$v -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo python$$v && break; done)
# A recipe that began with nothing would begin with the dash of its first option, and make lets those fail in silence.
A_PYTHON = $(or $(PYTHON),$(error Python 3.11 or newer is needed, and none is on the PATH: install one, or set PYTHON to it))
# What a shell has set for another program: paths that hide our own modules, assertions left out, a hook's repository.
unexport PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
VENV := .venv
BIN := $(VENV)/bin
# Pages and examples are UTF-8 in every locale.
PYTEST := PYTHONUTF8=1 $(BIN)/python -m pytest -p no:cacheprovider
# As many tests at a time as there are processors, at most four; `make test TEST_WORKERS=1` for another number.
TEST_WORKERS ?= logical
NOT_IN_TEST := not page and not chart and not image and not package and not systemd
SIDE_BY_SIDE := $(PYTEST) -n $(TEST_WORKERS) --maxprocesses 4 --dist load -m "not e2e and not alone and $(NOT_IN_TEST)"
# Needs nothing of .venv.
IMAGE = $(A_PYTHON) -m devkit.podman.image --tool "$(IMAGE_TOOL)" --platform "$(PLATFORM)" --tag "$(TAG)" --base "$(BASE)"
# Whole pods wait most of the time: two files of their tests at a time.
PODS := -n $(TEST_WORKERS) --maxprocesses 2 --dist loadfile

.PHONY: help install demo play build push sbom lock package test test-fast test-e2e test-k8s test-chart test-page test-image test-package test-systemd test-kernels fuzz sim fleets days handovers mutants soak explore test-coverage check format bench benchmarks model campaign endurance clean

## show this help
help:
	@awk '/^## /{d=substr($$0,4)} /^[a-z0-9-]+:/{sub(":.*","");if(d)printf "  %-15s %s\n",$$1,d;d=""}' $(MAKEFILE_LIST)

## put everything into .venv (forge-manager, forgectl, dev kit, checks)
install: $(VENV)/installed

# Its scripts name the folder that they were installed in: where that is another one (moved, copied), they are made anew.
# So they are where the Python that it links to is gone (an upgrade of the system).
IN_PLACE := test ! -e $(BIN)/forge-manager || { test -x $(BIN)/python && grep -qF "$$(pwd -P)/" $(BIN)/forge-manager; }
ifneq ($(shell $(IN_PLACE) || echo moved),)
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: pyproject.toml
	@$(IN_PLACE) || { echo "$(VENV) was installed in another folder, or by a Python that is gone: made anew"; rm -rf $(VENV); }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(BIN)/python -m ensurepip >/dev/null 2>&1 || $(A_PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m compileall -q bench cardano cli config devkit gateway health ipc kernel kube outgoing policy sandbox workers
	@touch $@

## three nodes, one forger: kill things and watch (about a minute, needs no cluster and no root)
demo: install
	$(BIN)/python -m devkit.demo

## the same three pods, for you to break by hand
play: install
	$(BIN)/python -m devkit.play

## the container image (IMAGE_TOOL=podman|docker, PLATFORM=linux/arm64, TAG=name:tag, BASE=image to build on)
build:
	@$(IMAGE) build

## build it and publish it: make push TAG=registry/forge-manager:v3.0.0
push:
	@$(IMAGE) push

## what is in the image, by licence (build/licences.txt) and as CycloneDX (build/sbom.cdx.json); TAG=... of one that is built
sbom: install-image
	$(BIN)/python -m devkit.podman.sbom $(if $(TAG),$(TAG),$$($(BIN)/python -m devkit.podman.image name)) --tool "$(IMAGE_TOOL)"

## lock the image's dependencies anew, each file by its hash (UPGRADE=1: the newest that pyproject.toml allows)
lock: install-image
	$(BIN)/python -m devkit.podman.lock $(if $(UPGRADE),--upgrade)
	$(BIN)/python -m devkit.podman.lock --check

.PHONY: install-image install-page
install-image install-page: install-%: $(VENV)/installed-%

$(VENV)/installed-%: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

## every test that needs neither root nor Go nor a container engine: most side by side, then what measures, then whole pods
test: install
	@$(SIDE_BY_SIDE); fast=$$?; test $$fast -le 1 || exit $$fast; \
	$(PYTEST) -m alone; alone=$$?; test $$alone -le 1 || exit $$alone; \
	$(PYTEST) $(PODS) -m e2e; pods=$$?; \
	echo "exit codes: $$fast side by side, $$alone alone, $$pods whole pods"; exit $$((fast | alone | pods))

## its first half: without the tests that start whole pods, measure times or set the clock
test-fast: install
	$(SIDE_BY_SIDE)

## the whole-pod tests on the embedded API server
test-e2e: install
	$(PYTEST) $(PODS) tests/e2e

## contract and whole-pod tests, and docs/install.md word for word, on a real kube-apiserver and etcd (built from Go modules into a cache)
test-k8s: install
	$(BIN)/python -m devkit.realapi.build
	FORGE_TEST_K8S=1 $(PYTEST) $(PODS) tests/contract tests/devkit_api tests/docs tests/e2e -m k8s

## the Helm charts: rendered by helm, taken by a real kube-apiserver (both built from Go modules into a cache; needs kubectl)
test-chart: install
	$(BIN)/python -m devkit.helm.build
	$(BIN)/python -m devkit.realapi.build
	$(PYTEST) tests/chart

## the page in a browser (needs chromium; FORGE_PAGE_PICTURES=docs/page makes its pictures anew)
test-page: install-page
	$(PYTEST) tests/page -m page -q

## what `make package` makes: complete, the same bytes twice, and a whole pod from its wheel (needs a package index)
test-package: install
	$(PYTEST) tests/package -m package -q

## the units of deploy/systemd on a real systemd in namespaces (needs root, systemd, cgroup v2, overlayfs; a package index)
test-systemd: install
	$(PYTEST) tests/systemd -m systemd -q

## the files of a release into dist/, from the commit that is checked out (PACKAGE_PARTS="wheel sdist chart image sbom")
package: install
	$(BIN)/python -m devkit.package $(PACKAGE_PARTS)

## build the image and run it in real pods, on the real kube-apiserver (needs root and podman; FORGE_IMAGE_RESULTS=file)
test-image: install-image
	$(BIN)/python -m devkit.realapi.build
	FORGE_IMAGE_BASE="$(BASE)" $(PYTEST) tests/image -m image --durations=12

## the sandbox on other kernels and on arm64, emulated (needs root, qemu-system-x86, qemu-system-arm, cpio)
test-kernels: install
	$(BIN)/python -m devkit.kernels $(KERNELS)

## a million spoilt frames on every socket (FORGE_FUZZ_SEED repeats a run)
fuzz: install
	FORGE_FUZZ_FRAMES=$${FORGE_FUZZ_FRAMES:-1000000} $(PYTEST) tests/fuzz -q

## schedules of faults for whole pods in simulated time: make sim SEEDS=10000; make sim SEED=7 tells one (START=, DRIFT=)
sim: install
	@$(BIN)/python tests/simulation/sim.py $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) $(if $(START),--start $(START)) $(if $(DRIFT),--drift $(DRIFT))

## the life of two pools over DAYS=24 days of HOURS=24 in simulated time, and what their workers hold (SEED=n, POOL=name of one)
days: install
	@$(BIN)/python tests/simulation/days.py --days $(or $(DAYS),24) --hours $(or $(HOURS),24) $(if $(SEED),--seed $(SEED)) $(if $(POOL),--pool "$(POOL)")

## the right to forge from pod to pod TRANSITIONS=10000 times, in simulated time: each moves it once, and nothing grows (SEED=n)
handovers: install
	@$(BIN)/python tests/simulation/handovers.py --transitions $(or $(TRANSITIONS),10000) $(if $(SEED),--seed $(SEED)) $(if $(POOL),--pool "$(POOL)")

## deliberate faults of the product, each of which the simulation must see (ONLY=... those whose name contains it)
mutants: install
	@$(BIN)/python tests/simulation/product_mutants.py $(if $(ONLY),--only "$(ONLY)") $(if $(RECORD),--record)

## fleets of regions in simulated time, beyond the first sixty, which are in `make test`: FLEETS=200 (START=60)
fleets: install
	FORGE_FLEET_START=$(or $(START),60) FORGE_FLEET_SEEDS=$(or $(FLEETS),200) $(PYTEST) tests/simulation/test_fleet.py \
	-q -n $(TEST_WORKERS) --dist load -k "in_a_fleet or once_faults_are_mended"

## a million schedules of whole pods, two thousand fleets, and hours of the fault campaign (SEEDS=, FLEETS=, MINUTES=)
soak: install
	$(BIN)/python tests/simulation/sim.py --seeds $(or $(SEEDS),1000000)
	$(MAKE) fleets FLEETS=$(or $(FLEETS),2000)
	$(MAKE) campaign MINUTES=$(or $(MINUTES),300)

## every state of the models in model/, and their mutants (needs spin and gcc; RECORD=1 writes the counts down; ONLY=lock; minutes)
model: install
	$(BIN)/python -m devkit.model $(if $(ONLY),--only "$(ONLY)") $(if $(RECORD),--record)

## random faults upon real pods for MINUTES=20, judged by the nodes' own records (SEED=n repeats one; API=real|embedded; SLACK=s)
campaign: install
	$(BIN)/python tests/campaign --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED)) $(if $(API),--api $(API)) $(if $(SLACK),--slack $(SLACK))

## the right to forge from pod to pod TRANSITIONS=10000 times, on real pods: nothing that they hold may grow (SEED=n)
endurance: install
	$(BIN)/python tests/campaign/endurance.py --transitions $(or $(TRANSITIONS),10000) $(if $(SEED),--seed $(SEED))

## the property tests with examples drawn anew, ten rounds (ROUNDS=...): goes on after a failure and says it
explore: install
	@failed=0; for round in $$(seq $${ROUNDS:-10}); do \
	FORGE_EXPLORE=1 $(PYTEST) -q -n $(TEST_WORKERS) --maxprocesses 4 -m "hypothesis and not e2e and not alone" || failed=1; \
	done; exit $$failed

## tests with coverage
test-coverage: install
	$(BIN)/python -m coverage run -m pytest -m "not e2e and $(NOT_IN_TEST)"
	$(BIN)/python -m coverage report

## format, lint and types: zero findings
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## put the code into its form
format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## cost and speed, beside others that elect a leader in the same run
bench: install
	$(BIN)/python -m bench

## docs/benchmarks.md anew: fail-over, cost and scaling beside the peers (forty minutes; a quiet machine, Go, a package index)
benchmarks: install
	$(BIN)/python -m bench.failover
	$(BIN)/python -m bench.scaling
	$(BIN)/python -m bench.report

## remove what the targets above made
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
