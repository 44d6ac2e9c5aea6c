# `make demo` and `make test` set themselves up: a virtual environment in $(VENV), the
# package with its native library built into it. A rerun reuses both.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
SEEDS ?= 1
ARGS ?=
PYTEST_ARGS ?= -n 2 --dist worksteal
FUZZ_SECONDS ?= 30
FUZZ_RUNS ?=

RUN := $(VENV)/bin/python
CPP_BUILD := build/cpp-$(notdir $(VENV))
SOURCES := bench epmc_jax tests
NATIVE := $(shell find xla_ffi -type f 2>/dev/null)

# A shim may exist for a Python that is not installed: only one that runs counts.
PYTHON312 = $(shell for p in python3.12 "$$HOME"/.pyenv/versions/3.12*/bin/python; do \
  "$$p" -c '' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: help demo bench test test-all test-cpp test-cuda test-portable test-python lint \
  bazel clean fuzz python312

help:
	@echo 'make demo      train a ResNet-18 five ways and compare (SEEDS=3, ARGS=--quick)'
	@echo 'make test      lint, types, C++ tests, Python tests, documentation examples'
	@echo 'make test-all  the same, and test-portable on Python 3.12 where there is one'
	@echo 'make test-portable the Python tests that another Python or jax may fail'
	@echo 'make test-cuda everything that can be tested of CUDA without a GPU, at full size'
	@echo 'make fuzz      arbitrary bytes for every decoder (FUZZ_SECONDS=30, FUZZ_RUNS=...)'
	@echo 'make bench     memory, gradients, step and compile time, accuracy: some hours'
	@echo 'make bazel     the native libraries and their tests with Bazel'
	@echo 'make clean     remove the environments and everything built'
	@echo 'PYTHON=python3.12 VENV=.venv-3.12 choose the interpreter and its environment.'

$(RUN):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo '$(PYTHON) is older than 3.11: set PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo 'no venv module: on Debian, apt install python3-venv'; \
	  exit 1; }

# An editable install sees changed Python files by itself; native ones need a new build.
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check -e

$(VENV)/.demo: $(RUN) pyproject.toml $(NATIVE)
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/.test: $(RUN) pyproject.toml $(NATIVE)
	$(INSTALL) '.[demo,test]' cmake ninja
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	$(RUN) -m bench demo --seeds $(SEEDS) $(ARGS)

bench: $(VENV)/.demo
	$(RUN) -m bench memory
	$(RUN) -m bench sparse
	$(RUN) -m bench fidelity
	$(RUN) -m bench noise
	$(RUN) -m bench step
	$(RUN) -m bench compile
	$(RUN) -m bench train

test: lint test-cpp test-python

test-all:
	$(MAKE) test
	[ -z "$(PYTHON312)" ] || $(MAKE) test-portable PYTHON="$(PYTHON312)" VENV=.venv-3.12

lint: $(VENV)/.test
	$(RUN) -m ruff check $(SOURCES)
	$(RUN) -m ruff format --check $(SOURCES)
	$(RUN) -m mypy epmc_jax bench

test-cpp: $(VENV)/.test
	$(VENV)/bin/cmake -S . -B $(CPP_BUILD) -G Ninja -DEPMC_BUILD_TESTS=ON -DEPMC_CUDA=OFF \
	  -DCMAKE_BUILD_TYPE=Release -DCMAKE_MAKE_PROGRAM="$(abspath $(VENV))/bin/ninja" \
	  -DPython_EXECUTABLE="$(abspath $(RUN))"
	$(VENV)/bin/cmake --build $(CPP_BUILD)
	$(VENV)/bin/ctest --test-dir $(CPP_BUILD) --output-on-failure

test-python: $(VENV)/.test
	$(RUN) -m pytest $(PYTEST_ARGS) --doctest-modules --doctest-glob='*.md' \
	  tests epmc_jax docs README.md

# Without the tests of the native kernels, which know neither Python nor jax.
test-portable:
	$(MAKE) test-python PYTEST_ARGS="$(PYTEST_ARGS) -m 'not native'"

# `make test` has small cases of the same. It takes nvcc, or else tests only what needs none.
test-cuda: $(VENV)/.test
	EPMC_TEST_CASES=all $(RUN) -m pytest $(PYTEST_ARGS) tests/cuda
	! command -v nvcc || $(RUN) -m bench cuda

# FUZZ_SECONDS, or FUZZ_RUNS inputs, for each codec.
fuzz: $(VENV)/.test
	bash tools/fuzz.sh build/fuzz $(abspath $(RUN)) \
	  $(if $(FUZZ_RUNS),-runs=$(FUZZ_RUNS),-max_total_time=$(FUZZ_SECONDS))

bazel:
	bash tools/bazel/check.sh

python312:
	@echo "$(PYTHON312)"

clean:
	rm -rf build .venv .venv-3.12 .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +
