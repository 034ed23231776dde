# The demo, the tests, the style checks and the benches. Each sets up what it needs: a virtual environment in $(VENV),
# installed again only when the requirement files change. With a ComfyUI checkout its own requirements go in as well.
#
#   make demo [PHOTO=me.jpg]    a photo becomes S*, S* becomes a picture; without PHOTO also the sheet of the small world
#   make test                   all tests that can run on this machine
#   make lint                   ruff
#   make bench                  start cost of the pack, speed of the encoder, of training steps and of reading records
#   make miniature              the weights of the small world, from nothing, in f2d_core/miniature/weights (hours; resumable)
#   make evidence               the papers' tables in the small world, in docs/evidence (hours; resumable)
#   make publish-check          what is missing before the pack may go to the ComfyUI registry

PYTHON ?= python3
VENV ?= .venv
COMFYUI_PATH ?= $(HOME)/comfy/ComfyUI
export COMFYUI_PATH

PY := $(VENV)/bin/python
REQUIREMENTS := requirements-dev.txt $(wildcard $(COMFYUI_PATH)/requirements.txt)
# Named after the content, so that a checkout that comes or goes counts as a change too.
INSTALLED := $(VENV)/.installed-$(shell cat $(REQUIREMENTS) | cksum | tr ' ' '-')
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(PY),$(PY) -m pip install --quiet)

WORK ?= runs/miniature

.PHONY: demo test lint bench setup miniature evidence publish-check

demo: setup
	$(PY) -m f2d_core demo $(if $(PHOTO),--photo "$(PHOTO)")
	$(if $(PHOTO),,$(PY) -m f2d_core.miniature.demo)

# Apart: the host and server rings bring ComfyUI's modules, which the core ring must not see. The core ring runs in two
# processes of one thread each, which takes a third of the time of one process that shares its threads.
test: setup
	@failed=0; \
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/core -n 2 --dist loadfile || failed=1; \
	$(PY) -m pytest tests/host tests/server || failed=1; \
	$(PY) -m pytest tests/browser || failed=1; \
	exit $$failed

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: setup
	$(PY) bench/import.py
	$(PY) bench/encode.py
	$(PY) bench/train_step.py
	$(PY) bench/evaluate.py
	$(PY) bench/render.py
	$(PY) bench/msid.py
	$(PY) bench/recordio.py

miniature: setup
	$(PY) -m f2d_core.miniature.make --work "$(WORK)"

evidence: setup
	$(PY) -m f2d_core.miniature.evidence --work "$(WORK)"

publish-check:
	$(PYTHON) -m tests.support.publishing

setup: $(INSTALLED)

$(INSTALLED):
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(foreach file,$(REQUIREMENTS),-r "$(file)")
	rm -f $(VENV)/.installed-*
	touch $@
