# Set-up and everyday commands. `make demo` and `make test` need nothing but Python 3.11+, make and Java 17 or 21.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
SYNAPSEML_VENV := .venv-bench-synapseml
SYNAPSEML_READY := $(SYNAPSEML_VENV)/.ready
# The Sparks of EMR 7 and of emr-spark-8.0; Mirabelle's own environment has a newer one.
SPARKS := 3.5.6 4.0.2
OTHER_SPARKS := $(basename $(SPARKS))
WHEEL := dist/mirabelle-0.1.0-py3-none-any.whl
SOURCES := $(shell find lib/mirabelle -type f -not -path '*/__pycache__/*')
# Where the demo keeps its pictures and results.
DEMO ?= demo
# Where make demo-serve listens.
PORT ?= 8080
# How many processes run the tests. A file's tests stay in one of them, and so share its session and server.
N ?= 2
# Files with few tests, which start Spark and clusters, go first: with the many of the unit tier last, no process idles.
PARALLEL = -n $(N) --dist loadfile --no-loadscope-reorder

export PYSPARK_PYTHON := $(abspath $(BIN)/python)

.DEFAULT_GOAL := help
.PHONY: help demo demo-planes demo-s3 demo-serve demo-in-bucket test coverage test-quick test-long check lint types contract package lock bench bench-short bench-docs clean java

help:  ## Say what there is
	@grep -E '^[a-z0-9.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9.-]+):.*## /  make \1\t/' | expand -t 20

demo: $(READY) $(WHEEL) java  ## Render a sample set and run the whole pipeline on it, through spark-submit
	$(BIN)/python scripts/render_fruits.py $(DEMO)/pictures
	$(BIN)/spark-submit --properties-file conf/spark-local.conf --py-files $(WHEEL) jobs/run_pipeline.py \
	    --config conf/demo.yaml --set images.root=$(DEMO)/pictures --set output=$(DEMO)/output

demo-planes: $(READY) $(WHEEL) java  ## Draw a small photo site, crawl and explore it, and learn who built the aeroplanes
	$(BIN)/python scripts/photo_site.py $(DEMO)/planes/site -- \
	    $(BIN)/mirabelle crawl --config conf/demo-planes.yaml --set output=$(DEMO)/planes/output
	$(BIN)/mirabelle explore --config conf/demo-planes.yaml --set output=$(DEMO)/planes/output \
	    --set images.manifest=$(DEMO)/planes/output/crawl/drawn/photos.parquet
	$(BIN)/spark-submit --properties-file conf/spark-local.conf --py-files $(WHEEL) jobs/run_pipeline.py \
	    --config conf/demo-planes.yaml --set output=$(DEMO)/planes/output \
	    --set images.manifest=$(DEMO)/planes/output/crawl/drawn/photos.parquet

demo-s3: $(READY) $(WHEEL) java  ## The same with pictures and output in a bucket of a MinIO of its own
	scripts/minio run $(MAKE) --no-print-directory demo-in-bucket
	@echo "the bucket's output, before the server went: $(DEMO)/bucket"

demo-serve: $(READY)  ## After make demo: bundle what it learnt and serve it on this machine, until Ctrl-C (PORT=8080)
	$(BIN)/mirabelle bundle --config conf/demo.yaml --index --set images.root=$(DEMO)/pictures --set output=$(DEMO)/output
	$(BIN)/mirabelle serve "$$(ls -d $(DEMO)/output/bundle/*/ | tail -1)" --port $(PORT)

demo-in-bucket: $(READY) $(WHEEL) java
	$(BIN)/python scripts/render_fruits.py $(DEMO)/pictures
	$(BIN)/python scripts/bucket.py put $(DEMO)/pictures s3://mirabelle-demo/pictures
	$(BIN)/spark-submit --properties-file conf/spark-s3.conf --master 'local[*]' --driver-memory 4g \
	    --driver-java-options -Dlog4j2.configurationFile=lib/mirabelle/log4j2.properties --conf spark.ui.enabled=false \
	    --py-files $(WHEEL) jobs/run_pipeline.py --config conf/demo.yaml \
	    --set images.root=s3://mirabelle-demo/pictures --set output=s3://mirabelle-demo/output
	$(BIN)/python scripts/bucket.py get s3://mirabelle-demo/output $(DEMO)/bucket

test: $(READY) $(WHEEL) java  ## The everyday tests, in N=2 processes (make test N=1)
	$(BIN)/python -m pytest $(PARALLEL)

coverage: $(READY) $(WHEEL) java  ## The same with branch coverage and its bar, which takes twice as long
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-branch --cov-report=term:skip-covered

test-quick: $(READY) lint types contract  ## Before a commit: lint, types, imports and the unit tests not marked slow
	$(BIN)/python -m pytest $(PARALLEL) -m 'not full and not long and not slow' tests/unit

test-long: $(READY) $(WHEEL) java  ## The tests marked long: clusters, kills, the demo, the benchmark's short form
	$(BIN)/python -m pytest $(PARALLEL) -m 'long and not full' --durations=30 --durations-min=20

check: lint types contract coverage  ## All that must pass every day; .ci/run adds test-long, test-schedule and test-sparks

lint: $(READY)  ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy --strict
	$(BIN)/mypy

contract: $(READY)  ## Who may import whom
	$(BIN)/lint-imports --no-cache

package: $(WHEEL)  ## The wheel for spark-submit --py-files

$(WHEEL): $(READY) pyproject.toml README.md $(SOURCES)
	@rm -rf build  # setuptools would put files of an earlier build into the wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@touch $@

bench: $(READY) bench-peers java  ## Measure everything against its targets; make bench BENCH="--images PICTURES"
	$(BIN)/python scripts/bench/run.py $(BENCH)

bench-short: $(READY) java  ## Run a little of the benchmark, to see that it still does
	$(BIN)/python scripts/bench/run.py --short --work bench/short $(BENCH)

bench-docs: $(READY)  ## Put the last results into docs/performance.md
	$(BIN)/python scripts/bench/run.py --write-docs

lock: $(READY)  ## Resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --upgrade --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra heif --extra openvino --extra s3 --constraints requirements.lock pyproject.toml -o requirements-worker.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra gpu --extra heif --extra s3 --constraints requirements.lock pyproject.toml -o requirements-gpu.lock
	@# The server imports no pandas and no PyArrow, which are 250 MB of the 600.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra heif --extra serve --constraints requirements.lock \
	    $(foreach package,pandas pyarrow pytz tzdata,--no-emit-package $(package)) pyproject.toml -o requirements-serve.lock
	@# Of a cluster: with a driver in it, and on 64-bit Arm, where the newest OpenVINO wants a newer glibc than EMR has.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra cluster --extra heif --constraints requirements.lock pyproject.toml -o requirements-cluster.lock
	sed -nE '/^(openvino|numpy)/!s/^([^ ]+==[^ ]+) \\$$/\1/p' requirements-cluster.lock | \
	$(BIN)/uv pip compile --quiet --python-platform aarch64-manylinux_2_34 --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --extra cluster --extra heif --constraints /dev/stdin pyproject.toml \
	    -o requirements-cluster-arm.lock
	$(BIN)/uv pip compile --quiet --python-platform aarch64-manylinux_2_34 --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --extra heif --extra openvino --extra s3 --constraints requirements-cluster-arm.lock \
	    pyproject.toml -o requirements-worker-arm.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --upgrade --extra schedule pyproject.toml -o requirements-schedule.lock
	@# What takes the place of the two packages that are Spark's; all else stays.
	$(foreach version,$(SPARKS),echo 'pyspark==$(version)' | \
	    $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    - -o requirements-spark-$(basename $(version)).lock &&) true
	@# What a comparison turns on is the same on both sides; in the rest the peers may have what they ask for.
	sed -nE 's/^((keras|openvino|pillow|pyspark|tensorflow|tensorflow-cpu)==[^ ]+).*/\1/p' requirements.lock | \
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --upgrade --extra bench --constraints /dev/stdin pyproject.toml -o requirements-bench.lock
	sed -nE 's/^((keras|pillow|tensorflow|tensorflow-cpu)==[^ ]+).*/\1/p' requirements.lock | \
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --upgrade --extra bench-synapseml --constraints /dev/stdin pyproject.toml -o requirements-bench-synapseml.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14))' || { \
	    echo "Mirabelle needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: sudo apt install python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What the peers in scripts/bench/peers need, apart from Mirabelle's own environment.
$(BENCH_READY): requirements-bench.lock $(READY)
	@$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-bench.lock
	@touch $@

$(SYNAPSEML_READY): requirements-bench-synapseml.lock $(READY)
	@$(PYTHON) -m venv $(SYNAPSEML_VENV)
	$(SYNAPSEML_VENV)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-bench-synapseml.lock
	@touch $@

# All else is as in Mirabelle's own environment.
$(OTHER_SPARKS:%=.venv-spark-%/.ready): .venv-spark-%/.ready: requirements-spark-%.lock requirements.lock pyproject.toml $(READY)
	@$(PYTHON) -m venv $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r requirements-spark-$*.lock
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

# What a Spark can spoil: its tier, jobs under spark-submit, runs from bucket to bucket, a standalone cluster and YARN.
ON_EMRS_SPARKS ?= tests/cluster/test_readme.py tests/s3/test_pipeline.py tests/submit/test_jobs.py tests/spark
.PHONY: test-sparks $(OTHER_SPARKS:%=test-spark-%)
test-sparks: $(OTHER_SPARKS:%=test-spark-%)  ## Run the tests that a Spark can spoil on EMR's Sparks (test-spark-3.5, test-spark-4.0)
$(OTHER_SPARKS:%=test-spark-%): test-spark-%: .venv-spark-%/.ready $(WHEEL) java
	export PATH=$(abspath .venv-spark-$*/bin):$$PATH PYSPARK_PYTHON=$(abspath .venv-spark-$*/bin/python); \
	python -m pytest $(PARALLEL) -m 'not full' $(ON_EMRS_SPARKS)

.venv-schedule/.ready: requirements-schedule.lock pyproject.toml $(READY)
	@$(PYTHON) -m venv $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --require-hashes --no-deps -r requirements-schedule.lock
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: test-schedule
test-schedule: .venv-schedule/.ready  ## Hold schedules and rights against the tools that read them: systemd, Airflow, Step Functions
	AIRFLOW_HOME=$(abspath .venv-schedule/airflow) $(<D)/bin/python -m pytest tests/schedule

.PHONY: bench-peers
bench-peers: $(BENCH_READY) $(SYNAPSEML_READY)  ## Make the environments of BentoML, Daft, Ray Data and SynapseML, to compare with

java:
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
	version=$$("$$java" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p'); \
	case "$${version:-none}" in 17|21) ;; *) \
	    echo "Spark needs Java 17 or 21, and $${version:-none} is here. Install one, or set JAVA_HOME to it, and run this again:"; \
	    echo "  Debian, Ubuntu   sudo apt install openjdk-17-jre-headless"; \
	    echo "  Fedora, RHEL     sudo dnf install java-17-openjdk-headless"; \
	    echo "  Amazon Linux     sudo yum install java-17-amazon-corretto-headless"; \
	    echo "  macOS            brew install openjdk@17"; \
	    exit 2;; \
	esac

clean:  ## Remove what the demo and the tests made; the environment stays
	rm -rf demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage spark-warehouse
