# make book    set everything up, execute every chapter, build the HTML book
# make test    every check: lint, unit tests, chapters re-run and compared, guards, clean build, site
# make lab     open the chapters in JupyterLab
# make execute run the chapters again, in place (CHAPTER=03 only those whose names begin so)
# make verify  execute a few kept runs again, drawn at random, and compare them digit by digit (a few minutes)
# make gpu     on a machine with a GPU: does it agree with the CPU, how fast is it, Table VI at full size (10 minutes)
# make student copies of the chapters without solutions, with cells to fill and checks, in _build/student
# make slides  a deck a chapter, from its figures and captions, in _build/slides
# make clean   remove what was built (clean-env: the environment too)
#
# VENV=/path   where the environment is or shall be (default .venv)       PYTHON=python3.12   which Python makes it
# JOBS=4       unit tests side by side (default: the number of cores)     NB_JOBS=4           chapters side by side (default: 2)

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env book test lint unit chapters guards site lab execute student slides verify gpu clean clean-env

VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# two chapters at a time with one thread each: on two cores a second thread of one chapter gains less than a second chapter
NB_JOBS ?= 2
THREADS ?= 1
TEST_BUILD := _build_test
# the tests of a file in one process, which then makes its fixtures once; in their order, as those of the papers, the slowest, come first
BY_FILE := --dist loadfile --no-loadscope-reorder

export PYTHON CC
export KERAS_BACKEND := torch
export OMP_NUM_THREADS := $(THREADS)
export MKL_NUM_THREADS := $(THREADS)
export OPENBLAS_NUM_THREADS := $(THREADS)
export NUMBA_NUM_THREADS := $(THREADS)
export PYTHONNOUSERSITE := 1
export PYTHONHASHSEED := 0
export JUPYTER_PREFER_ENV_PATH := 1
unexport MPLBACKEND

# the build tools are called by name from the environment
RUN = PATH="$(abspath $(BIN)):$$PATH"

# Something missing on this machine: the script says what in one line. The question mode then ends make with status 1 and
# without a word of its own; it would be 2 after a recipe that failed.
ifneq (,$(filter env book test lint unit chapters guards site lab execute student slides verify gpu,$(MAKECMDGOALS)))
  ifneq (ready,$(shell PYTHON="$(PYTHON)" CC="$(CC)" bash .ci/setup.sh "$(VENV)" book,dev check >&2 && echo ready))
    MAKEFLAGS += -q
  endif
endif

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

env:
	@bash .ci/setup.sh "$(VENV)" book,dev

# Always a clean build on top of the cache of executed chapters: an incremental one would forget a failure.
book: env
	@$(BIN)/python .ci/cache_key.py _build
	@$(RUN) $(BIN)/python .ci/execute.py _build $(NB_JOBS)
	@rm -rf _build/html _build/.doctrees _build/jupyter_execute
	@$(RUN) jupyter-book build . -n -W --keep-going
	@echo "The book is at $(CURDIR)/_build/html/index.html"
	@echo "For its commands: source $(BIN)/activate, then ferbook --help"

test: lint unit chapters guards site
	@echo "All checks passed."

lint: env
	$(BIN)/python -m ruff check .

unit: env
	$(BIN)/python -m pytest tests/unit -q -n $(JOBS) --durations=10 $(BY_FILE)

chapters: env
	$(RUN) $(BIN)/python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
	  -n $(NB_JOBS) --dist loadfile --durations=10 notebooks/

guards: env
	$(RUN) $(BIN)/python -m pytest tests/notebooks -q -n $(NB_JOBS) --durations=10

site: env
	@rm -rf $(TEST_BUILD)
	@$(BIN)/python .ci/config_off.py _config.yml $(TEST_BUILD)/_config.yml
	$(RUN) jupyter-book build . -n -W --keep-going --all --config $(TEST_BUILD)/_config.yml --path-output $(TEST_BUILD)
	BUILD_DIR=$(TEST_BUILD)/_build/html $(BIN)/python -m pytest tests/site -q

lab: env
	@$(RUN) jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

execute: env
	$(RUN) jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.timeout=300 --ExecutePreprocessor.record_timing=False notebooks/$(CHAPTER)*.ipynb

student: env
	$(BIN)/python .ci/student.py _build/student notebooks/*.ipynb

# figures, numbers and captions are those of the site
slides: book
	$(BIN)/python .ci/slides.py _build/html _build/slides

verify: env
	$(BIN)/ferbook verify dlp-cnn/table-5 dlp-cnn/table-3 dlp-cnn/algorithm-1 dlp-cnn/table-7 --runs 2

gpu: env
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf _build $(TEST_BUILD) .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find fer_utils tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

# only the environment that make itself made: one elsewhere is the reader's own
clean-env:
	rm -rf .venv
