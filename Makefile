# `make demo` and `make test` set up everything they need; a second call installs nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The virtual environment's own kernel, whatever kernels the person has elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
# Threads that wait for work sleep, so that a shared machine is not slowed down; a person's own choice stays.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test test-notebooks test-browser test-slurm tables book site evidence bench bench-gpu lab lint lock clean

demo: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" papermill notebooks/ma_fsar.ipynb out.ipynb -p shot 1
	@echo "Done: open out.ipynb (make lab shows it in JupyterLab)."

# What the others begin with, alone.
setup: $(STAMP)

# Files of tests side by side, one core each; the longest first (tests/conftest.py), so that none is left alone at the end.
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP)
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-notebooks: $(STAMP)
	VIDLIB_NOTEBOOK_SIZE=default $(BIN)/python -m pytest -q tests/test_notebooks.py

# Every notebook in JupyterLab in headless Chromium; screenshots in out/browser. `make test` runs a few where Chromium is.
test-browser: $(STAMP)
	@$(BIN)/python -m tests.browser.finding
	VIDLIB_BROWSER=all $(BIN)/python -m pytest -q tests/browser

# Sweeps on a real Slurm of three virtual nodes on this machine. `make test` runs the shortest where Slurm is installed.
test-slurm: $(STAMP)
	@$(BIN)/python -m tests.slurm.cluster
	VIDLIB_SLURM=all $(BIN)/python -m pytest -q tests/slurm

# Store anew what the notebooks keep and their tests compare: their parameters, as the models have them, and tables.
tables: $(STAMP)
	$(BIN)/python -m tests.keep_parameters $(NAMES)
	$(BIN)/python -m tests.keep_tables $(NAMES)

# The notebooks, executed, as a site in book/, offline: make book SIZE=default takes the finished runs instead of smoke size.
SIZE ?= smoke
book: $(STAMP)
	$(BIN)/python -m docs.book --size $(SIZE) $(NAMES)

# The same notebooks, as make book left them, and a page of every paper, method and benchmark, in site/, offline.
site: $(STAMP)
	$(BIN)/python -m docs.reference

# Every training that the claims rest on, into records/; what is finished is kept, so the same command goes on.
evidence: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m vidlib.cli evidence $(NAMES)

# make bench NAMES="heads otam" runs those two.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(NAMES)

# On a GPU, at most eight minutes: one JSON, kept in bench_gpu.json (benchmarks/gpu.py says what it needs).
bench-gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu

# An ignored working copy: playing in JupyterLab writes outputs, and those must not land in notebooks/.
lab: $(STAMP)
	@mkdir -p lab/notebooks
	@if [ -e out.ipynb ] && [ ! out.ipynb -ot lab/notebooks/out.ipynb ]; then cp out.ipynb lab/notebooks/out.ipynb; fi
	$(BIN)/vidlib lab lab --open

# The versions of constraints.txt with the digests of their files, for pip's --require-hashes: Linux x86-64, any Python of ours.
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target build/uv uv
	build/uv/bin/uv pip compile --quiet pyproject.toml --all-extras -c constraints.txt --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --no-emit-index-url --python-version 3.11 --python-platform x86_64-manylinux_2_28 -o lock-linux-x86_64.txt

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vidlib needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,slurm,track,cards,export]'
	@mkdir -p $(VENV)/etc/ipython  # a kernel warns of its own transport at each start, to nobody's use
	@echo "c.IPKernelApp.log_level = 40" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache
