# make setup   the environment in .venv
# make demo    a whole study on synthetic people, and which report to open
# make docs    the documentation in build/docs; a warning ends it
# make test    every check that CI runs, and the share of lines that the tests reach

PYTHON ?= python3
CORES ?= 2
# torch: the CPU build, from here where it is reachable, else from wherever pip looks.
# "make setup TORCH_INDEX=" takes the default build, which needs gigabytes and can use a GPU.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
# one thread per process: the processes share the processors
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test check docs clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0] + ": make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@index=; if [ -n "$(TORCH_INDEX)" ] && $(BIN)/python -c \
	  'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)' \
	  "$(TORCH_INDEX)" 2>/dev/null; then index="--extra-index-url $(TORCH_INDEX)"; fi; \
	set -x; $(BIN)/pip install --quiet $$index -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/snakemake --cores $(CORES) --configfile config/config.yaml
	@echo
	@echo "Open results/demo/report.html for the decision and results/demo/qc/index.html for every image."

docs: setup
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs
	@echo "Open build/docs/index.html."

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules workflow
	$(BIN)/mypy
	$(BIN)/snakemake --lint

test: check
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder -rs --cov

clean:
	rm -rf results logs resources/demo .snakemake build/docs
