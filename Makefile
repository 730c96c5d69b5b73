# Two commands do everything: `make lab` to learn, `make test` to prove that it works. `make help` lists the rest.
PYTHON ?= python3
PY := .venv/bin/python

# Two test processes share the cores between them instead of each claiming all.
WORKERS ?= 2
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
THREADS := $(shell expr $(CORES) / $(WORKERS) '|' 1)

.PHONY: help setup lab update test browser notebooks lint format diff fork release

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv and install everything in it; at once when nothing changed
	@command -v $(PYTHON) >/dev/null || { echo "setup: no $(PYTHON) here; install Python or say which: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) tools/setup_env.py

lab: setup ## open the notebooks, copied to my-notebooks/, in JupyterLab (ARGS="--port 9000" is passed on)
	$(PY) tools/lab.py $(ARGS)

update: ## fetch the newest series; what you wrote in my-notebooks/ stays
	@$(PYTHON) tools/lab.py --update
	@$(MAKE) --no-print-directory setup

test: setup ## run unit tests, doctests and every notebook (ARGS="-k mask" is passed on)
	OMP_NUM_THREADS=$(THREADS) $(PY) -m pytest -n $(WORKERS) --dist loadfile --ignore tests/browser $(ARGS)

browser: setup ## open every notebook in JupyterLab in a real browser, installed where it is missing (ARGS="-k 06")
	$(PY) tools/setup_browser.py
	$(PY) -m pytest tests/browser -rs $(ARGS)

notebooks: setup ## run the notebooks and store their outputs (one: NB=03)
	$(PY) tools/notebooks.py refresh $(NB)

lint: setup ## check format and style of package, tests, notebooks and tools
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

format: setup ## format everything and repair what can be repaired
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

diff: ## show uncommitted changes with notebooks as text (ARGS=main compares with main)
	@git -c diff.notebook.textconv="$(PYTHON) tools/notebooks.py text" diff $(ARGS)

fork: ## write another owner and name everywhere (REPO=me/mine)
	@$(PYTHON) tools/fork.py $(REPO)

release: ## write a release's number everywhere (VERSION=0.2.0; VERSION=main once it is tagged)
	@$(PYTHON) tools/release.py $(VERSION)
