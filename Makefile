# The commands a person needs; each installs what it needs, and a second call is fast.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install install-test demo test check format bench bench-peers bench-gpu soak kafka kafka-stop s3 s3-stop clean

help: ## say what there is
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

install: .venv/.installed ## install into .venv/

install-test: .venv/.installed-test

demo: install ## label the built-in samples and show what was made
	$(BIN)/python -m pipelines.annotate --runner=DirectRunner --output labelstream-demo --preview 9
	@echo
	@echo "the report:     labelstream-demo/report/index.html"
	@echo "the picture:    labelstream-demo/report/preview.png"
	@echo "COCO:           labelstream-demo/exports/annotations/instances.json"
	@echo "JSON lines:     labelstream-demo/exports/labels.jsonl"
	@$(BIN)/python -c "from pipelines.dataset import Dataset; import polars as pl; pl.Config.set_tbl_hide_dataframe_shape(True); print(Dataset('labelstream-demo').scan('annotations').select('label', 'confidence', 'bbox_x', 'bbox_y', 'bbox_w', 'bbox_h').collect())"

test: install-test ## run the tests
	$(BIN)/python -m pytest

check: install-test ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: install-test ## put the code into the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install-test ## measure each step, the pipeline, the bare loop, the floor and OpenCV's detector
	$(BIN)/python -m tests.benchmarks.bench

bench-peers: install-test ## measure other tools on the same files, each in an environment of its own (8.7 GB)
	$(BIN)/python -m tests.benchmarks.peers --write

bench-gpu: ## measure the models on this machine's GPU (needs numpy, OpenCV and ONNX Runtime alone)
	$(PYTHON) tests/benchmarks/bench_gpu.py

soak: install-test ## kill tests in full, and an hour of a stream
	$(BIN)/python -m tests.soak.kills
	$(BIN)/python -m tests.soak.streams --write
	$(BIN)/python -m tests.soak.buckets --write

kafka: ## start a Kafka broker on localhost:9092 (Java 17, Maven; data in .kafka/)
	@$(PYTHON) deploy/kafka/broker.py start --topics frames:2,labels:2

kafka-stop: ## stop it
	@$(PYTHON) deploy/kafka/broker.py stop

s3: ## start an S3 server on localhost:9000 (Go 1.25 builds it once; data and keys in .s3/)
	@$(PYTHON) deploy/buckets/server.py start --buckets raw,labelled

s3-stop: ## stop it
	@$(PYTHON) deploy/buckets/server.py stop

clean: kafka-stop s3-stop ## remove what the commands above made, .venv included
	rm -rf .venv .venv-peers .venv-deploy .venv-airflow .kafka .s3 build *.egg-info labelstream-demo
