.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
PREPARED := $(VENV)/.prepared

# uv reads none of pip's settings; behind a company's proxy only the system's certificates know its key.
export UV_SYSTEM_CERTS ?= 1

STORE ?=
AS_OF ?=
CONF ?=
# The store's profile learns from six windows, which takes as long as all the rest; CONF={} does so.
DEMO_CONF := {"ranker_windows": 1}
PORT ?= 8080
RECENT ?=
N ?=
FILES ?=
FORCE ?=
KEEP ?=
YES ?=
FROM ?=
TO ?=
# Test files at once, by folder: whole runs come before what is short. Not as many as cores: each takes 3 GB with Spark.
WORKERS ?= 2

.PHONY: help setup demo profile check run estimate bench-embed bench-cluster bench-meaning bench-quality bench-ablation bench-cold bench-serving bench-publish bench-similar bench-pages bench-demo rehearsal up down show rollback pause resume prune recommend test test-fast test-all new-revision forecast backfill compose-check lint lock clean java audit forget

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: java $(STAMP) $(PREPARED) ## install everything into .venv, Airflow's database into .airflow (needs Python 3.11 and Java 17)

java:
	@bin/check-java

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it (Debian/Ubuntu: apt-get install python3.11 python3.11-venv; macOS: brew install python@3.11) or name it: make setup PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(PY) --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/uv pip install --python $(PY) --no-deps --editable .
	@$(PY) -c "import lightgbm" 2>/dev/null || { echo "LightGBM needs the system's OpenMP library: install it (Debian/Ubuntu: apt-get install libgomp1; macOS: brew install libomp) and run this again."; exit 1; }
	@$(PY) bin/share_spark_classes.py
	touch $(STAMP)

# Not part of the stamp above: neither lint nor the fast tests need Airflow. `run` and `up` prepare what is missing.
$(PREPARED): $(STAMP)
	@$(PY) bin/local_airflow.py setup || echo "Airflow's metadata database could not be prepared: make run, demo and up will try again."
	@touch $@

demo: setup ## run the whole workflow on real data (Complete Journey), without any key
	@$(PY) bin/local_airflow.py run --store complete_journey --conf '$(or $(CONF),$(DEMO_CONF))'
	@$(PY) -m shelfkin show --store complete_journey

profile: setup ## draft a store's profile from its files: make profile STORE=my_shop FILES="articles.csv orders.csv" (FORCE=1)
	@$(PY) -m shelfkin profile --store '$(STORE)' --files '$(subst ','\'',$(FILES))' $(if $(FORCE),--force)

check: setup ## what a run would make of a store's files, told in seconds on a sample (STORE=..., AS_OF=...)
	@$(PY) -m shelfkin check --store '$(STORE)' --as-of '$(AS_OF)'

run: setup ## run one store's DAG once: make run STORE=online_retail AS_OF=2011-11-01 CONF='{"repurchase": "exclude"}'
	@$(PY) bin/local_airflow.py run --store '$(STORE)' --as-of '$(AS_OF)' --conf '$(CONF)'

estimate: setup ## what embedding a store would send and cost, before anything is spent (STORE=..., AS_OF=...)
	@$(PY) bin/estimate.py --store '$(STORE)' --as-of '$(AS_OF)'

up: setup ## start Airflow on 127.0.0.1:8080 (PORT=...) and print the login
	@$(PY) bin/local_airflow.py up --port $(PORT)

down: ## stop Airflow and everything that it started
	@$(PY) bin/local_airflow.py down

new-revision: setup ## the living shop delivers catalogues again, with one shelf renamed (FROM=the first day that reads them)
	@$(PY) -m shelfkin new-revision --from '$(FROM)'

forecast: setup ## what a backfill would change and embed, before it is made (STORE=..., FROM=..., TO=...)
	@$(PY) bin/forecast.py --store '$(STORE)' --from '$(FROM)' --to '$(TO)'

backfill: setup ## run days again, on the Airflow of make up (STORE=..., FROM=..., TO=...)
	@$(PY) bin/local_airflow.py backfill --store '$(STORE)' --from '$(FROM)' --to '$(TO)'

show: setup ## print clusters, a product with its neighbours and three customers of the newest run (STORE=..., AS_OF=...)
	@$(PY) -m shelfkin show --store '$(STORE)' --as-of '$(AS_OF)'

rollback: setup ## let readers have an earlier published day again, and pause publishing (STORE=..., AS_OF=..., REASON='...')
	@$(PY) -m shelfkin rollback --store '$(STORE)' --as-of '$(AS_OF)' --reason '$(subst ','\'',$(REASON))'

pause: setup ## keep what readers get as it is, while runs go on (STORE=..., REASON='...'); make resume STORE=... ends it
	@$(PY) -m shelfkin pause --store '$(STORE)' --reason '$(subst ','\'',$(REASON))'

resume: setup ## let the next published run become what readers get
	@$(PY) -m shelfkin resume --store '$(STORE)'

prune: setup ## which old runs may go: make prune STORE=... KEEP=90; with YES=1 they are removed
	@$(PY) -m shelfkin prune --store '$(STORE)' $(if $(KEEP),--keep '$(KEEP)') $(if $(YES),--yes)

forget: setup ## what is held of a customer: make forget STORE=... USER=...; with YES=1 REASON='...' it is erased
	@$(PY) -m shelfkin forget --store '$(STORE)' --user '$(subst ','\'',$(if $(filter command,$(origin USER)),$(USER)))' --reason '$(subst ','\'',$(REASON))' $(if $(YES),--yes)

recommend: setup ## products for a handful of recently viewed ids: make recommend RECENT=P316,P333,P1115 (STORE=titles_only)
	@$(PY) -m shelfkin recommend --store '$(or $(STORE),titles_only)' --recent '$(subst ','\'',$(RECENT))' $(if $(N),--n '$(N)')

test: setup ## all tests but the slow drills, two files at once (WORKERS=0: one after the other)
	$(PY) -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: $(STAMP) ## the tests that need neither Spark nor Airflow
	$(PY) -m pytest -m "not spark and not airflow and not e2e and not slow"

test-all: test ## every test, with the drills on a real scheduler and a Spark cluster
	$(PY) -m pytest -m slow

compose-check: setup ## docker-compose.yaml against its specification and this project, without Docker
	$(PY) -m pytest -q tests/test_compose_file.py

bench-embed: setup ## benchmark: use of the quota against four usual ways; PART=throughput: the stage on an unlimited server
	$(PY) benchmarks/bench_embed.py $(or $(PART),quota) $(if $(TEXTS),--texts $(TEXTS))

bench-cluster: setup ## benchmark: k-means beside MLlib, scikit-learn and FAISS on the same vectors; PART=small|large|growth
	$(PY) benchmarks/bench_cluster.py $(or $(PART),all)

bench-meaning: setup ## benchmark: clusters against known categories, planted groups, identity under change (STORE=...)
	$(PY) benchmarks/bench_meaning.py $(STORE)

bench-quality: setup ## benchmark: lists against every baseline on what was bought next (STORE=online_retail|complete_journey)
	$(PY) benchmarks/bench_quality.py $(STORE)

bench-ablation: setup ## benchmark: what text, clusters, sequence and season add to the lists (STORE=...)
	$(PY) benchmarks/bench_ablation.py $(STORE)

bench-cold: setup ## benchmark: products without any history, ranked by text and cluster (STORE=...)
	$(PY) benchmarks/bench_cold.py $(STORE)

bench-serving: setup ## benchmark: the serving index, its look-ups beside DuckDB's (STORE=... or a made-up shop of PRODUCTS=...)
	$(PY) benchmarks/bench_serving.py $(if $(STORE),--store '$(STORE)') $(if $(PRODUCTS),--products '$(PRODUCTS)')

bench-pages: setup ## benchmark: every page's answer in ms, its index's cost, the server's memory (STORE=... or 1,000,000 made-up products)
	$(PY) benchmarks/bench_pages.py $(if $(STORE),--store '$(STORE)') $(if $(PRODUCTS),--products '$(PRODUCTS)')

bench-demo: setup ## benchmark: the demo beside a floor of as many Spark tasks, and once more with nothing changed
	$(PY) benchmarks/bench_demo.py

bench-publish: setup ## benchmark: a run published to Postgres five times, with readers beside it (STORE=...)
	$(PY) benchmarks/bench_publish.py --store '$(STORE)'

bench-similar: setup ## benchmark: nearest texts of all, beside FAISS flat, IVF and HNSW, and of 1,000,000; PART=compare
	$(PY) benchmarks/bench_similar.py $(or $(PART),all)

rehearsal: setup ## a server to rehearse a load on: make rehearsal RPM=3000 TPM=1000000, then OPENAI_BASE_URL=... make run ...
	$(PY) -m rehearsal $(if $(RPM),--rpm $(RPM)) $(if $(TPM),--tpm $(TPM))

lint: $(STAMP) ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=plugins $(BIN)/lint-imports

audit: $(STAMP) ## known vulnerabilities, hashes and age of the lock, and licences
	@$(PY) bin/audit.py

lock: ## resolve requirements.lock anew
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	$(BIN)/uv pip compile --quiet --python-version 3.11 --override requirements-overrides.txt --generate-hashes \
	  --no-header --output-file requirements.lock requirements-dev.in

clean: ## remove what was installed and built, but no artifacts, no data and not .airflow
	rm -rf $(VENV) build *.egg-info include/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
