# Two commands: `make demo` and `make test`; each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test lint conformance prove bench clean

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(READY)

demo: $(READY)  ## pretrain on embedded real handwriting, evaluate, write a report (under 4 minutes after the install)
	$(BIN)/selftaught demo

test: $(READY)  ## the tests: no network, no data folder needed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks

conformance: $(READY)  ## check_method over every method and modality: hours, goes on where it was; writes docs/CONFORMANCE.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/conformance.py

bench: $(READY)  ## all that takes minutes; methods_table.py and conformance.py take hours, gpu_*.py a GPU
	for f in $(filter-out benchmarks/gpu_% benchmarks/methods_% benchmarks/conformance.py benchmarks/result_lines.py,$(wildcard benchmarks/*.py)); do nice $(BIN)/python $$f || exit 1; done

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache
