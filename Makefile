# Two commands: `make study` runs the main job, `make test` passes the tests. Both set everything up first.
DATA   ?=
PRESET ?=
ARGS   ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN    := .venv/bin
PIP     = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -qq
# Another build of PyTorch, a smaller one say: make setup TORCH=cpu TORCH_INDEX=ADDRESS
TORCH       ?=
TORCH_INDEX ?=
NO_INDEX := TORCH=$(TORCH) needs an address: choose Pip and CPU at https://pytorch.org/get-started/locally/ and give what stands there after --index-url: make setup TORCH=$(TORCH) TORCH_INDEX=ADDRESS

.PHONY: study story test tools real oldest oldest-light bench faults project-faults setup readme docs tidy times
setup: .venv/installed

.venv/installed: settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python3.11" if sys.version_info<(3,11) else 0)'
	@test -z "$(TORCH)" -o -n "$(TORCH_INDEX)" || { echo "$(NO_INDEX)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -z "$(TORCH_INDEX)" || { echo "installing PyTorch from $(TORCH_INDEX)"; $(PIP) torch torchvision --index-url "$(TORCH_INDEX)"; }
	@echo "installing into .venv (about 6 GB with PyTorch's CUDA builds, 1.5 GB with its CPU build; some minutes, once)"
	@$(PIP) -e '.[dev]'
	@touch $@

study: setup
	@$(BIN)/imbal-al study $(if $(DATA),--data $(DATA)) $(if $(PRESET),--preset $(PRESET)) $(ARGS)

# The same for ten seeds, into data/results/story.csv: an hour or so
story: setup
	@$(BIN)/python -W ignore -c 'from imbal_al.dev.story import main; main()' $(ARGS)

# On as many cores as there are; one process: make test CORES=0
CORES  ?= auto
test: setup
	@$(BIN)/python -m pytest -n $(CORES) --dist worksteal $(ARGS)

# Real programs beside us, in an environment of their own: Label Studio, and CVAT's library of formats
TOOLS  := .venv/tools
tools: $(TOOLS)/installed

$(TOOLS)/installed: .ci/tools.lock | .venv/installed
	@echo "installing Label Studio and datumaro into $(TOOLS) (1 GB; a minute or a few, once)"
	@$(BIN)/python -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --disable-pip-version-check --progress-bar off -qq -r .ci/tools.lock \
	  || { echo "Label Studio and datumaro cannot be installed; what pip says is above. Without them: make test"; exit 1; }
	@touch $@

# The tests that start servers, one after the other and nothing beside them
real: tools
	@$(BIN)/python -m pytest -n 0 -m real $(ARGS)

# A telling part of the tests with the oldest versions that settings.ini allows, in an environment of its own
OLDEST := .venv/oldest
OLDEST_TESTS ?= tests/test_losses.py tests/test_metrics.py tests/test_statistics.py tests/test_cases.py tests/test_project_cli.py::test_the_loop
oldest: $(OLDEST)/installed
	@PYTHONPATH=$(CURDIR) $(OLDEST)/bin/python -m pytest -n $(CORES) $(OLDEST_TESTS) $(ARGS)

$(OLDEST)/installed: settings.ini .ci/oldest.py | .venv/installed
	@echo "installing the oldest versions into $(OLDEST) (about 6 GB; 8 minutes here, once)"
	@$(BIN)/python -m venv --clear $(OLDEST)
	@$(BIN)/python .ci/oldest.py > $(OLDEST)/pins.txt
	@$(OLDEST)/bin/python -m pip install --disable-pip-version-check --progress-bar off -qq -r $(OLDEST)/pins.txt
	@touch $@

# What CI runs of it: the oldest versions of all but PyTorch and what is built on it, laid over .venv (a minute to install)
LIGHT := .venv/oldest_light
LIGHT_TESTS ?= tests/test_losses.py tests/test_metrics.py tests/test_statistics.py tests/test_cases.py
oldest-light: $(LIGHT)/installed
	@PYTHONPATH=$(CURDIR) $(LIGHT)/bin/python -m pytest -n $(CORES) $(LIGHT_TESTS) $(ARGS)

$(LIGHT)/installed: settings.ini .ci/oldest.py | .venv/installed
	@echo "installing the oldest versions of all but PyTorch into $(LIGHT) (600 MB; a minute, once)"
	@$(BIN)/python -m venv --clear $(LIGHT)
	@$(BIN)/python .ci/oldest.py light > $(LIGHT)/pins.txt
	@$(LIGHT)/bin/python -m pip install --disable-pip-version-check --progress-bar off -qq --no-deps -r $(LIGHT)/pins.txt
	@$(BIN)/python -c 'import site; print(*site.getsitepackages(), sep="\n")' > $(LIGHT)/beside.txt
	@cp $(LIGHT)/beside.txt "$$($(LIGHT)/bin/python -c 'import site; print(site.getsitepackages()[0])')/zz_beside.pth"
	@touch $@

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
