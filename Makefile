# make book      execute every chapter with the smoke profile and build the book, in _build/
# make test      lint, types, import contract, unit tests, doctests, notebooks; pages as another machine
# make machines  the tests as many machines, in a table; PYTHONS="old/bin/python …" adds environments
# make publish   execute all from records/ (PROFILE=cpu), replace what is stale, check, build the book
# make check     whether the chapters as they are may be published
# make site      build the book from the chapters as they are, in _build/published/
# make pdf       the same book on paper, _build/book.pdf (needs Chromium or Chrome)
# make bench     measure everything in benchmarks/ and write the page book/benchmarks.md
# make env       only make the environment

PYTHON ?= python3
VENV ?= .venv
PROFILE ?= cpu
CHAPTERS ?=
PYTHONS ?=
BIN := $(VENV)/bin

export WSN_STORE ?= $(CURDIR)/_build/store

.PHONY: book test suite pages machines publish check site pdf bench env clean

env: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[book,cluster,test]"
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x "/tests?/" $(VENV)/lib || true  # pip would with one core
	touch $@

book: env
	$(BIN)/python book/build.py book --profile smoke

publish: export WSN_STORE = records
publish: env
	$(BIN)/python book/build.py --profile $(PROFILE) publish $(CHAPTERS)

check site pdf: env
	$(BIN)/python book/build.py $@

bench: env
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/table.py

test: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) suite TESTS="-k 'not published_page_is'"
	$(BIN)/python tests/machines.py another --target pages

# One thread in each of two processes: threads of both on two cores wait for each other.
suite pages: export OMP_NUM_THREADS ?= 1

# What a machine may change, with the environment in BIN as it is.
suite: export WSN_STORE = $(CURDIR)/_build/smoke
suite:
	rm -rf _build/smoke
	$(BIN)/python book/build.py prepare --profile smoke
	$(BIN)/python -m pytest -p tests.one_core --override-ini addopts= \
		--override-ini filterwarnings=default --numprocesses 2 --dist loadfile \
		--nbval-lax --nbval-cell-timeout=900 _build/prepared
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(TESTS)

pages:
	$(BIN)/python -m pytest --numprocesses 2 tests/test_book.py -k published_page_is

machines: env
	$(BIN)/python tests/machines.py $(addprefix --python ,$(PYTHONS))

clean:
	rm -rf _build
