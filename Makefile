# Two commands: `make study` runs the main job, `make test` passes the tests. Both set everything up first.
DATA   ?= synthetic
PRESET ?= quick
ARGS   ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN    := .venv/bin

.PHONY: study test bench faults project-faults setup readme docs tidy times
setup: .venv/installed

.venv/installed: settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python3.11" if sys.version_info<(3,11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (about 6 GB with CUDA builds of PyTorch; some minutes, once)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -qq -e '.[dev]'
	@touch $@

study: setup
	@$(BIN)/imbal-al study --data $(DATA) --preset $(PRESET) $(ARGS)

# On as many cores as there are; one process: make test CORES=0
CORES  ?= auto
test: setup
	@$(BIN)/python -m pytest -n $(CORES) --dist worksteal $(ARGS)

bench: setup
	@$(BIN)/python -W ignore -c 'from imbal_al.dev.bench import main; main()' $(ARGS)

faults: setup
	@$(BIN)/python -c 'from imbal_al.dev.faults import main; main()' $(ARGS)

project-faults: setup
	@$(BIN)/python -c 'from imbal_al.dev.project_faults import main; main()' $(ARGS)

docs: setup
	@$(BIN)/python .ci/docs.py
	@$(BIN)/python .ci/docs.py check

readme: setup
	@$(BIN)/python .ci/readme.py

tidy: setup
	@$(BIN)/python .ci/tidy.py
	@$(BIN)/nbdev-clean
	@$(BIN)/nbdev-export

times: setup
	@$(BIN)/python .ci/times.py $(ARGS)
