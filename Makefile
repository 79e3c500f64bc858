# On a machine with Python 3.11 or later and make, each target does all its own set-up.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
COOKBOOK := out/cookbook
# Each worker loads the embedded weights for itself: up to 3 GB.
ALL_CORES := --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: demo test test-vllm test-ray test-cluster lint bench clean weights

demo: weights  ## run the main job: a cookbook from twelve recipes
	$(BIN)/carrara run examples/cookbook/cookbook.yaml --output $(COOKBOOK)
	@echo; echo "The cookbook is in $(COOKBOOK)/: book.md, recipes.jsonl, shopping.md and score.json."

test: .venv/.dev weights  ## pass all tests; those that need PostgreSQL are skipped where it is not installed (Debian: postgresql)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ALL_CORES)

test-vllm: .venv/.dev weights  ## ask a real vLLM server: VLLM_URL=http://host:8000/v1 make test-vllm
	VLLM_URL=$(VLLM_URL) $(BIN)/python -m pytest tests/engines/vllm/live.py

test-ray: .venv/.ray  ## jobs on a Ray cluster of one node that loses engines, workers, the driver: one to three minutes; needs PostgreSQL (Debian: postgresql)
	CARRARA_TEST_SERVERS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -x -m cluster tests/cluster/test_ray_small.py

test-cluster: .venv/.ray  ## all tests with servers, clusters of Ray too: needs PostgreSQL (Debian: postgresql); CLUSTER_RECORDS=500 is shorter
	CARRARA_TEST_SERVERS=1 CLUSTER_EXAMPLES=40 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "cluster or not cluster" tests/cluster

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev weights  ## print the numbers of the README as JSON
	$(BIN)/python -m benchmarks.all

weights: .venv/.local
	$(BIN)/carrara models pull

.venv/.local: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[local]'
	touch $@

.venv/.dev: .venv/.local
	$(PIP) --editable '.[local,dev]'
	touch $@

.venv/.ray: .venv/.dev
	$(PIP) --editable '.[ray]'
	touch $@

clean:
	rm -rf .venv out
