# Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-slow check guard audit format results bench bench-serving gpu gpu-data simulate clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-%: .venv/bin/python setup.cfg constraints.txt
	$(INSTALL) --editable '.[$*]'
	@touch $@

demo: .venv/installed-bench,onednn  ## the main job on real data: CIFAR-10, calibrated, served, measured, reported
	$(BIN)/python examples/cifar10/demo.py

test: .venv/installed-dev  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/installed-dev  ## the slow tests
	$(BIN)/python -m pytest -m slow

check: .venv/installed-dev  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p cascade

guard: .venv/installed-dev  ## kernel, engine, batcher and executor are as quick as before, compared with the same work by hand
	OMP_NUM_THREADS=1 $(BIN)/python -m cascade.benchmarks.experiments.costs.regression_guard --out .venv/regression_guard.json

audit: .venv/installed-dev .venv/installed-audit  ## known vulnerabilities in what is installed (needs the network)
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > .venv/frozen.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .venv/frozen.txt

format: .venv/installed-dev  ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A missed figure (exit code 6) is recorded in the result file, and the others go on.
experiment = $(BIN)/python -m cascade.benchmarks.experiments.$(1) || test $$? -eq 6

results: .venv/installed-dev  ## docs/results.md from the result files of benchmarks/results
	$(BIN)/python -m cascade.benchmarks.harness.results.results_page

bench: .venv/installed-dev  ## the times of benchmarks/results, measured again (about 20 minutes; needs wrk)
	$(call experiment,costs.cascade_against_biggest)
	$(call experiment,peers.http_one_row examples/cifar10/config.yaml --dataset cifar10)
	$(call experiment,peers.http_one_row examples/cifar10/light.yaml \
	    --dataset cifar10 --out benchmarks/results/peers/http_one_row_light.json)
	$(call experiment,statistics.search_scaling)
	$(call experiment,statistics.cascade_choice)

# Peers have environments of their own: their pins are not ours.
.venv/peer-%: .venv/bin/python
	$(PYTHON) -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check $(PEER_$*) numpy orjson \
	    || { rm -rf $@; exit 1; }
PEER_mosec := "mosec==0.9.*"
PEER_litserve := "litserve==0.2.*"
PEER_bentoml := "bentoml==1.4.*"

bench-serving: .venv/installed-dev .venv/peer-mosec .venv/peer-litserve .venv/peer-bentoml  ## serving: peers, ideal, latency, open loop, faults (about 55 minutes; needs wrk)
	$(call experiment,peers.against_peers \
	    --mosec-python .venv/peer-mosec/bin/python --litserve-python .venv/peer-litserve/bin/python \
	    --bentoml-python .venv/peer-bentoml/bin/python)
	$(call experiment,serving.added_latency)
	$(call experiment,serving.load_generator)
	$(call experiment,serving.ideal_share)
	$(call experiment,serving.inline_batches)
	$(call experiment,serving.poisson)
	$(call experiment,serving.poisson \
	    --config examples/cifar10/config.yaml --dataset cifar10 --out benchmarks/results/serving/poisson_cifar10.json)
	$(call experiment,resilience.reload_under_load)
	$(call experiment,serving.idle_cost)
	$(call experiment,resilience.stops_under_load --stops 12)
	$(call experiment,serving.gears)
	$(BIN)/python -m cascade collect examples/cifar10/static.yaml --dataset cifar10 --threads 1 --out .venv/cifar10.npz
	$(call experiment,costs.simulated_served --scores .venv/cifar10.npz)
	$(call experiment,costs.simulated_scale --scores .venv/cifar10.npz)
	$(call experiment,resilience.faults)
	$(call experiment,serving.observability_overhead)
	$(call experiment,resilience.faults --fault kill_node --out benchmarks/results/resilience/faults_two_nodes.json)
	$(call experiment,resilience.two_nodes)

gpu: .venv/installed-dev  ## all that needs a CUDA device, in calls of ten minutes; DATA=folder of 'make gpu-data', OUT=folder for copies
	$(BIN)/python -m cascade.benchmarks.experiments.gpu.all_steps $(if $(DATA),--data $(DATA)) $(if $(OUT),--copy-to $(OUT))

gpu-data: .venv/installed-dev  ## CIFAR-10 in parts of less than 45 MB, in ./gpu-data, for a machine without a network
	$(BIN)/python -m cascade data cifar10 --pack gpu-data

simulate: .venv/installed-dev  ## the simulations of benchmarks/results again (about an hour)
	$(call experiment,statistics.validity)
	$(call experiment,statistics.tightness)
	$(call experiment,statistics.fresh_alarms)
	$(call experiment,statistics.recall_validity)

clean:  ## remove .venv and what the demo wrote
	rm -rf .venv .gpu gpu-data demo build dist *.egg-info
