# make install     the virtual environment that all others use
# make install-onnx  one without torch, for tests of predictions by ONNX Runtime
# make check       formatting, lint, types, and which part imports which
# make test        the test suite without the tests marked "long"
# make test-long   the whole test suite
# make docs        the documentation site, in docs/_build/html
# make docs-links  check links to other sites (needs network)
# make package     build the wheel and the sdist, and try the wheel in an empty environment
# make parity      compare with independent packages, in an environment of their own
# make bench       measure speed and memory on this machine: benchmarks/results.json, and the table
#                  at the top of benchmarks/RESULTS.md; BENCH="--parts read train" measures some
# make bench-gpu   speed of training and prediction on the GPU of this machine, in ten minutes at
#                  most, with made-up events; figures also in gpu.json
# make demo        simulate events, train a network on them, and see that it works; after Ctrl-C it
#                  resumes
# make demo-picture  copy the picture of a finished demo to docs/demo.png

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WITHOUT_TORCH := .venv-onnx
PARITY := .venv-parity
SPHINX := $(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: install install-onnx check test test-long docs docs-links package parity bench bench-gpu demo \
  demo-picture clean

install: $(INSTALLED)

install-onnx: $(WITHOUT_TORCH)/.installed

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: install install-onnx
	$(PYTEST)

# An empty expression replaces the one in pyproject.toml that leaves long tests out.
test-long: install install-onnx
	$(PYTEST) -m ""

docs: install
	$(SPHINX) -b html docs docs/_build/html

docs-links: install
	$(SPHINX) -D plot_gallery=0 -b linkcheck docs docs/_build/links

package: install
	$(BIN)/python tools/check_package.py dist
	PYTHON=$(PYTHON) TORCH=$(TORCH) tools/try_package.sh dist/*.whl

parity: $(PARITY)/.installed
	$(PARITY)/bin/python parity/calibration_metrics.py
	$(PARITY)/bin/python parity/sky.py

bench: install
	$(BIN)/python benchmarks/bench.py $(BENCH)

bench-gpu: install
	$(BIN)/python benchmarks/gpu.py --out gpu.json

demo: install
	$(BIN)/python tools/demo.py

demo-picture: install
	cd demo && ../$(BIN)/python ../tools/demo_report.py --picture ../docs/demo.png

# torch goes first: what depends on it must not bring another build of it.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev,display,docs,farm,i3,onnx,pandas,parquet,serve,sign,sky,weights]"
	touch $@

$(WITHOUT_TORCH)/.installed: pyproject.toml requirements-onnx.txt
	test -x $(WITHOUT_TORCH)/bin/python || $(PYTHON) -m venv $(WITHOUT_TORCH)
	$(WITHOUT_TORCH)/bin/python -m pip install --quiet --requirement requirements-onnx.txt
	$(WITHOUT_TORCH)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

$(PARITY)/.installed: pyproject.toml requirements-parity.txt
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -c "import torch" 2>/dev/null || $(PARITY)/bin/python -m pip install --quiet $(TORCH)
	$(PARITY)/bin/python -m pip install --quiet --requirement requirements-parity.txt
	$(PARITY)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(WITHOUT_TORCH) $(PARITY) demo docs/_build docs/auto_gallery build dist
