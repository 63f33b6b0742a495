# Two commands do everything: `make demo` and `make test`. Both create .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamp is newer than these files exactly when the environment is up to date.
# What a first build of the environment installs is pinned in constraints.txt (the tested set).
STAMP := $(VENV)/installed
# As many processes as there are cores, but no more than memory allows: each holds PyTorch.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all lint format install benchmark docs clean

# Trains a small language model on English text that comes with Python, samples from it and writes a report.
demo: install
	$(BIN)/hybridgen fit --config experiments/language_model/embedded.yaml --name demo --wandb offline
	@echo; echo "Samples of the best checkpoint, temperature 0.7:"; echo
	$(BIN)/hybridgen sample --ckpt "$$(ls -td runs/demo/*/ | head -n 1)checkpoints/best.ckpt" \
		--prompt "The " --num_samples 3 --max_new_tokens 200 --temperature 0.7
	$(BIN)/hybridgen report runs/demo --out report.html

test: install lint
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow"

# The slow tests too: every moment of exact resume, elastic restarts, every cell as a graph...
test-all: install lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: install
	$(BIN)/python scripts/benchmark_cells.py

# The pages in docs/ as a site in site/.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache
