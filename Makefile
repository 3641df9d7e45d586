# Two commands for people: `make run` and `make test`. Everything is installed into .venv from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
# Tests wait more than they work. Who has nothing left takes from the others.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 3)
STAMP := $(VENV)/.installed
# What Python compiles is kept, whatever the environment says: without it each process takes seconds longer to start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install run demo examples docs test test-postgresql lint bench soak screenshots sweep wheel clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Steersman needs Python 3.11 or newer; name one with PYTHON=…"; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute)…"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# Tests drive PDC's own client. What it needs for Kerberos would have to be compiled against the system's headers.
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt --no-deps pdc-client
	@# On all cores; some packages carry files that are of no version of Python's.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

run: install
	@$(BIN)/python examples/run.py --port $(PORT)

demo: install
	@$(BIN)/python examples/demo.py

# What the examples name and print, made anew from this version.
examples: install
	$(BIN)/steersman schema > examples/schema.json
	for folder in examples/[0-9]*; do \
	  $(BIN)/steersman plan --path $$folder/specs --offline > $$folder/plan.txt || test $$? = 2 || exit 1; \
	done

# Pages that are made from the code: kinds, settings, command line.
docs: install
	$(BIN)/python -m api.docs.reference

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The checks of `lint` run beside the tests; what they find is printed last.
test: install
	@$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & lint=$$!; \
	  $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal; tests=$$?; \
	  wait $$lint || { cat $(VENV)/lint.log; exit 1; }; exit $$tests

# Every test that starts a daemon, on a real PostgreSQL.
test-postgresql: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --database postgresql

bench: install
	$(BIN)/python -m tests.bench

# Two daemons and three workers, all of them and PostgreSQL killed and stopped in turn, for ten minutes.
soak: install
	$(BIN)/python -m tests.fleet.soak

# A picture of each page of the dashboard, in the folder pictures; needs Debian's chromium.
screenshots: install
	$(BIN)/python -m tests.browser.pictures --overview api/docs/overview.png

# Kills the daemon before and after each commit, spawn and rename there is: fifty minutes on two cores.
sweep: install
	$(BIN)/python -m tests.crash

wheel: install
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist run .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
