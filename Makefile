# Every target sets up what it needs; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3.11
VENV := .venv
# One more than cores: a third of the time a test waits for a process or a socket.
WORKERS = $(shell $(BIN)/python -c 'import os; print(len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else os.cpu_count() + 1)')
BIN := $(VENV)/bin
# The modules whose every line and branch the tests must reach, with the compiler off.
PURE := domain realised_volatility volatility_regime trend_signal spread_signal toxicity_guard \
        post_only_safety pricing_engine market_making_models strategy_rows resting_order reprice_pipeline \
        risk_manager exposure order_flow flow_toxicity trade_arrivals micro_price funding reference_price \
        return_covariance correlation hedging grid model_quotes side_gates wanted_quote kill_ladder
PURE_TESTS = $(wildcard $(PURE:%=tests/test_%.py)) tests/test_risk_manager_net_beta.py tests/test_mm_strategy.py
comma := ,
empty :=
space := $(empty) $(empty)
PURE_FILES := $(subst $(space),$(comma),$(PURE:%=*/market_maker/%.py))
# Runs the kernels once, so that they are compiled into the cache before anybody waits for them.
WARM := MM_JOURNAL_DIR=$(VENV)/warm-journal $(BIN)/mm demo --seconds 1 --speed max --json
UV_VERSION := 0.13.9

.PHONY: help setup compiled demo test test-pure test-compiled check fuzz audit mutants kill-rounds bench parity study ablation docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.warm ## Make the environment in .venv, and compile the kernels into their cache

compiled: $(VENV)/.installed ## Compile the kernels of backtest and paper into their cache, which takes three minutes
	$(BIN)/pytest -q tests/test_backtest_runner.py tests/test_gateway_contract.py \
	  -k "test_limits_are_those_of_the_risk_manager or (test_the_status_of_markets and paper)"

demo: $(VENV)/.installed ## Run the market maker on an emulated exchange, over sockets; make demo ARGS="--seconds 40"
	@$(BIN)/mm demo $(ARGS)

test: test-compiled test-pure ## Run all tests, then the decision core's with the compiler off

test-compiled: $(VENV)/.installed ## Run all tests; make test-compiled ARGS="-k grid"
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

test-pure: $(VENV)/.installed ## Decision tests as plain Python, with every line and branch covered
	NUMBA_DISABLE_JIT=1 COVERAGE_FILE=.coverage.pure $(BIN)/coverage run --branch --source=market_maker \
	  -m pytest -q $(PURE_TESTS)
	COVERAGE_FILE=.coverage.pure $(BIN)/coverage report --include='$(PURE_FILES)' --fail-under=100

check: $(VENV)/.installed ## Formatting, lint, types, and which module may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed ## Run every benchmark; results as JSON in benchmarks/results
	@mkdir -p benchmarks/results
	@for file in $(filter-out benchmarks/engines.py benchmarks/kill_rounds.py,$(wildcard benchmarks/*.py)); do \
	  name=$$(basename "$$file" .py); echo "$$name"; \
	  $(BIN)/python "$$file" > "benchmarks/results/$$name.json"; cat "benchmarks/results/$$name.json"; \
	done

parity: $(VENV)/.installed .venv-parity/.installed ## Compare fills with hftbacktest's; make parity ARGS="--data DIR"
	@mkdir -p benchmarks/results
	$(BIN)/python benchmarks/parity/compare.py $(ARGS) > benchmarks/results/parity.json

fuzz: $(VENV)/.installed ## Fuzz the decoders and play the state machines for longer; make fuzz EXAMPLES=5000
	MM_FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) $(BIN)/pytest -q -n auto $(wildcard tests/test_*_stateful.py) \
	  tests/test_decoder_fuzz.py tests/test_file_fuzz.py

audit: .venv-audit/.installed ## Ask for known vulnerabilities in what requirements.lock pins; needs a network
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

mutants: $(VENV)/.installed ## Plant known bugs one at a time; the simulator must catch each; make mutants ARGS="--seeds 1..200 --write"
	$(BIN)/python tests/mutating.py $(ARGS)

kill-rounds: $(VENV)/.installed ## Kill the bot at random instants, a hundred times, and compare all books; twenty minutes
	$(BIN)/python benchmarks/kill_rounds.py --rounds 100 $(ARGS)

study: $(VENV)/.installed ## Run the backtests of docs/study and write its pages; make study ARGS="--recordings DIR"
	$(BIN)/python docs/study/make_study.py $(ARGS)

ablation: $(VENV)/.installed ## Play the profile less each of its parts, and write docs/study/ablation.md
	$(BIN)/python docs/study/make_ablation.py $(ARGS)

docs: $(VENV)/.installed ## Write docs/reference/settings.md from the code
	@mkdir -p docs/reference
	$(BIN)/mm config reference > docs/reference/settings.md

lock: $(VENV)/.uv ## Renew requirements.lock from pyproject.toml
	{ echo '# All dependencies and the build backend, with hashes. Written by `make lock`.'; \
	  $(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
	  | $(BIN)/uv pip compile pyproject.toml - --universal --generate-hashes --all-extras --python-version 3.11 \
	    --no-header --no-emit-index-url --no-emit-find-links --quiet $(ARGS); } > requirements.lock.new
	@if grep -n '://' requirements.lock.new; then echo 'requirements.lock must name no host' >&2; exit 1; fi
	mv requirements.lock.new requirements.lock
	@for name in parity nautilus audit; do \
	  lock=benchmarks/$$name/requirements.lock; \
	  { echo "# The environment .venv-$$name, with hashes. Written by \`make lock\` from requirements.in."; \
	    $(BIN)/uv pip compile benchmarks/$$name/requirements.in --universal --generate-hashes \
	      --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --quiet; } > $$lock.new; \
	  if grep -n '://' $$lock.new; then echo "$$lock must name no host" >&2; exit 1; fi; \
	  mv $$lock.new $$lock; \
	done

clean: ## Remove the environment, caches and results; journals stay
	rm -rf $(VENV) .venv-parity .venv-nautilus .venv-audit build dist .coverage .coverage.* .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .import_linter_cache benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment needs Python 3.11 or newer, and on Debian and Ubuntu a package of its own.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo 'Python 3.11 is needed, and $(PYTHON) was not found. Install it, or name yours: make PYTHON=python3.12' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'The venv module of $(PYTHON) is missing. On Debian or Ubuntu: apt install python3-venv (or python3.11-venv)' >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# Two steps: what the lock names, checked by hash; then this package, with the build backend that the lock pins.
$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Other engines, each with what it pins in an environment of its own: .venv-parity and .venv-nautilus.
.venv-%/.installed: benchmarks/%/requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) was not found. Name yours: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.warm: $(VENV)/.installed $(shell find src -name '*.py')
	$(WARM) > /dev/null
	@rm -rf $(VENV)/warm-journal
	@touch $@

$(VENV)/.uv: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
