# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install quickstart okvqa-cpu okvqa-ablations okvqa-encoder okvqa-llama text-encoder base-llm test lint format sample-models chromium clean

help:
	@echo "make quickstart     install, then run the whole system on the embedded sample (runs/quickstart/report.html)"
	@echo "make okvqa-cpu      OK-VQA over Wikipedia passages: three seeds from the raw files in GEMKR_SHARED, 72 minutes of two cores"
	@echo "make okvqa-ablations what each part of its first seed contributes, by removing it: an hour"
	@echo "make okvqa-encoder  the same behind a pre-trained text encoder (make text-encoder downloads it), two hours"
	@echo "make okvqa-llama    the same by a pre-trained LLaMA of 135 M parameters (make base-llm lays it out; PRECISION=fp32 where a warning says that the processor is slow at bf16)"
	@echo "make base-llm       a pre-trained LLaMA of 135 M parameters in runs/base-llm, or the one that GEMKR_LLAMA names"
	@echo "make test           install, then lint and test"
	@echo "make install        only the virtual environment with everything in it"
	@echo "make format         ruff format and safe fixes"
	@echo "make sample-models  train the embedded sample's base models again (about half an hour)"

install: $(STAMP)

$(STAMP): pyproject.toml setup.py $(wildcard gemkr/*/csrc/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gemkr needs Python 3.11 or newer, this is %s; set PYTHON=" % sys.version.split()[0])'
	@command -v c++ >/dev/null || { echo "gemkr needs a C++17 compiler and found no c++; on Debian: apt-get install g++"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -e '.[all]'
	@touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/gemkr quickstart

okvqa-cpu: $(STAMP)
	$(BIN)/python -m benchmarks.okvqa.cpu

okvqa-ablations: $(STAMP)
	$(BIN)/python -m benchmarks.okvqa.ablations

text-encoder: $(STAMP)
	@test -n "$$GEMKR_TEXT_ENCODER" || $(BIN)/python -m benchmarks.okvqa.fetch_text_encoder

base-llm: $(STAMP)
	@test -n "$$GEMKR_LLAMA" || $(BIN)/python -m benchmarks.okvqa.fetch_base_llm

okvqa-llama: base-llm text-encoder
	$(BIN)/python -m benchmarks.okvqa.llama $(if $(PRECISION),--precision $(PRECISION))

okvqa-encoder: text-encoder
	$(BIN)/python -m benchmarks.okvqa.encoder

chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || echo "no Chromium: the browser tests are skipped; install it to run them"

test: $(STAMP) chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sample-models: $(STAMP)
	$(BIN)/python -m gemkr.sample.make_models

clean:
	rm -rf build *.egg-info gemkr/*/*.so
