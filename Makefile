# Two commands do everything: `make demo` runs the main job, `make test` runs the tests and checks.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test setup check clean

demo: setup
	$(BIN)/velatura demo

test: setup check
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

check: setup
	$(BIN)/ruff check velatura tests benchmarks
	$(BIN)/ruff format --check velatura tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: .venv/ready

# spandrel without what it depends on: its torchvision brings gigabytes of CUDA, and the tests have what they need of it
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps spandrel einops
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
