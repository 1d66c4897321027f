# Everything runs in a private environment, .venv, that `make setup` makes from requirements.lock.
# Required before: Python 3.11 or newer with pip, and make.

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
RUN := .venv/bin/python -m
CAPABILITY_TESTS := tests/latency tests/training/test_training_loop.py
STAMP := .venv/.installed
DOCS_STAMP := .venv-docs/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-avx2 test-ray test-slurm docs notebook benchmarks-tiny check format lock clean

help: ## show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1 - /p' Makefile

setup: $(STAMP) ## make .venv with the locked dependencies and this package

demo: setup ## find, train and export a network for the digits data set
	.venv/bin/genets search --data digits --budget 0.5x --out runs/demo

# pytest-xdist 3.8 waits for ever where it restarts a worker that crashed.
test: setup ## run the tests
	$(RUN) pytest -n 2 --dist loadfile --max-worker-restart 0

# A CPU with AVX-512 then behaves like a CPU with AVX2, where oneDNN lacks bf16.
test-avx2: setup ## run the latency tests as on a CPU with AVX2 and without bf16
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(RUN) pytest $(CAPABILITY_TESTS)

# Starts a Ray cluster on this machine, and stops it in the end.
test-ray: setup ## run the tests of workers on a real Ray cluster
	GENETS_TEST_RAY=1 $(RUN) pytest tests/nas/test_workers.py

# Starts slurmctld, slurmd and munge on this machine, and stops them in the end.
test-slurm: setup ## run the tests of workers on a real SLURM; skipped where its programs are missing
	GENETS_TEST_SLURM=1 .venv/bin/python tests/slurm/one_machine.py \
		$(RUN) pytest tests/nas/test_workers.py tests/nas/test_slurm_tasks.py

# The pages are collected with genets, and the site is built in an environment of its own, which the
# other targets do not need. Broken links and other warnings are errors (not so with --quiet). The
# notebook is run, in about two minutes. DOCS_FLAGS=--stored-notebook shows its stored output instead.
docs: setup $(DOCS_STAMP) ## build the documentation site: site/html/index.html
	.venv/bin/python docs/generator/site_pages.py $(DOCS_FLAGS)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

notebook: setup ## run examples/quickstart.ipynb and store its output; needs a calm machine
	.venv/bin/python docs/generator/notebook_page.py

# Short runs of the benchmarks that have options for short runs. Their figures mean nothing.
TINY_BENCHMARKS := \
	"against_search.py --tiny" \
	"assembled.py --tiny --seeds 0" \
	"screening.py --tiny --seeds 0" \
	"budgets.py --tiny" \
	"busy.py --tiny --threads 1 --budgets 2 --busy 1 --wait 0" \
	"data_pipeline.py --images 200" \
	"faults.py --tiny --ray 1 --slurm 0" \
	"fuzz.py --tiny" \
	"gpu_campaign.py --device cpu --tiny" \
	"latency_predictor.py --networks 2 --table-seconds 5 --table-only" \
	"predict_agreement.py --tiny" \
	"public_tables.py --tiny" \
	"repeatability.py --times 2 --time-limit 0.1" \
	"rounds.py --tiny --seeds 1" \
	"search_quality.py --tiny" \
	"startup.py" \
	"table3.py --engines torch --time-limit 0.01" \
	"table_preparation.py --tiny" \
	"train_kills.py --kills 1" \
	"trial_cost.py --tiny" \
	"worker_model.py --tiny"

benchmarks-tiny: setup ## check that the benchmarks run; the committed results stay
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
	for words in $(TINY_BENCHMARKS); do \
		echo "==== $$words"; \
		BENCHMARK_RESULTS=$$results .venv/bin/python benchmarks/$$words >"$$results/log" 2>&1 \
			|| { cat "$$results/log"; exit 1; }; \
	done

check: setup ## lint, formatting, types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: setup ## format the code and sort the imports
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --quiet --custom-compile-command "make lock" $(LOCK_FLAGS)

lock: | $(filter .uv/bin/uv,$(UV)) ## pin the dependencies of pyproject.toml (LOCK_FLAGS=--upgrade: newest versions)
	$(COMPILE) pyproject.toml --extra all --group dev --output-file requirements.lock
	$(COMPILE) --group docs --output-file requirements-docs.lock

clean: ## remove environments and caches, but not the studies in runs/
	rm -rf .venv .venv-docs .uv site .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Bytecode is compiled here, because the first start of a command would compile it alone.
# --python everywhere, so that uv never uses an activated environment (VIRTUAL_ENV) in place of .venv.
$(STAMP): requirements.lock pyproject.toml | $(filter .uv/bin/uv,$(UV))
	test -x .venv/bin/python || { rm -rf .venv && $(UV) venv --quiet .venv; }
	$(UV) pip sync --python .venv/bin/python --compile-bytecode requirements.lock
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	.venv/bin/python -m compileall -q src
	touch $@

$(DOCS_STAMP): requirements-docs.lock | $(filter .uv/bin/uv,$(UV))
	test -x .venv-docs/bin/python || { rm -rf .venv-docs && $(UV) venv --quiet .venv-docs; }
	$(UV) pip sync --python .venv-docs/bin/python --compile-bytecode requirements-docs.lock
	touch $@

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --target .uv uv==$(UV_VERSION)
