# Keyholt's tasks. Each sets up what it needs first: a virtual environment in .venv, the locked packages, and (as
# root on Debian) system packages. `make demo` and `make test` are all that a newcomer needs.
#
#   PYTHON=/path/to/python3.12   the interpreter to build .venv with
#   ARGS="-k framing"            further arguments for pytest, the demo or the benchmark

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=
export PYTHON

# setup.sh decides by the contents of its inputs and takes a lock, so that two makes may run at once.
setup-%:
	@tools/setup.sh $*

# The tests look into the agent's memory and descriptors, which it closes to everybody but root. An ordinary user is
# root of a user namespace of their own, which is enough for all but the tests that need a second uid.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || ! unshare --user --map-root-user true 2>/dev/null || \
	echo unshare --user --map-root-user --)

# Three workers for two cores, as a test often waits: for a process, for the disk, for a deadline. One that has done its
# share takes over from the others. What failed last time comes first, and the slowest tests are shown in the end.
PYTEST := -n 3 --dist worksteal -W error --failed-first --durations=15 --durations-min=1

# The suite starts Python some hundred times: it is not to compile the same files anew each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-changed torture bench generate lock clean
.PHONY: check check-ruff check-format check-mypy check-pyright check-rules check-generated check-text

help:
	@echo "make demo     run the agent on real input and show what it does"
	@echo "make test     the test suite"
	@echo "make test-changed  the tests of what differs from origin/main"
	@echo "make check    linters, type checkers, import and layout rules, drift of generated files"
	@echo "make bench    measure, and write docs/benchmarks.md"
	@echo "make torture  the long tests: crashes, faults, hostile input"
	@echo "make generate write anew what is generated: docs/, the clients' methods, the store's SQL"
	@echo "make lock     pin dependencies anew (UPGRADE=1 for the newest versions)"
	@echo "make clean    remove what the other targets made"

demo: setup-run
	@$(PY) demo/run.py $(ARGS)

test: setup-test
	$(AS_ROOT) $(PY) -m pytest $(PYTEST) $(ARGS)

test-changed: setup-test
	@$(AS_ROOT) $(PY) tools/changed_tests.py $(PYTEST) $(ARGS)

torture: setup-test
	$(AS_ROOT) $(PY) -m pytest $(PYTEST) -m torture --hypothesis-profile=torture $(ARGS)

# Measured is the project as it is installed, not as it lies here.
bench: setup-bench
	@$(VENV)-bench/bin/python bench/run.py $(ARGS)

generate: setup-run
	$(PY) tools/protocol_reference.py
	$(PY) tools/configuration_reference.py
	$(PY) tools/compiled_statements.py
	$(PY) tools/client_source.py
	$(PY) tools/help_pages.py
	$(PY) tools/command_reference.py
	$(PY) tools/python_reference.py
	$(PY) tools/man_pages.py
	$(PY) tools/pictures.py

# One target a rule: the first that fails stops `make check`; `make -k check` shows what all of them say.
check: check-ruff check-format check-mypy check-pyright check-rules check-generated check-text

SOURCES := agent protocol client tests tools $(wildcard demo bench)

check-ruff: setup-check
	$(VENV)/bin/ruff check $(SOURCES)

check-format: setup-check
	$(VENV)/bin/ruff format --check $(SOURCES)

check-mypy: setup-check
	$(VENV)/bin/mypy $(SOURCES)

# The wheel carries the checker and node both; the variable keeps it from asking whether there is a newer one.
check-pyright: setup-check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --pythonpath $(PY)

check-rules: setup-check
	$(PY) -m pytest -q -W error tests/test_imports.py tests/tools/test_layout.py
	$(PY) tools/layout.py

check-generated: setup-check
	$(PY) tools/protocol_reference.py --check
	$(PY) tools/configuration_reference.py --check
	$(PY) tools/compiled_statements.py --check
	$(PY) tools/client_source.py --check
	$(PY) tools/help_pages.py --check
	$(PY) tools/command_reference.py --check
	$(PY) tools/python_reference.py --check
	$(PY) tools/man_pages.py --check
	$(PY) tools/pictures.py --check

check-text: setup-check
	$(PY) tools/tracked_text.py

lock: setup-check
	tools/lock.sh

clean:
	rm -rf $(VENV) $(VENV)-bench .setup.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find agent protocol client tests tools demo bench -name __pycache__ -prune -exec rm -rf {} +
