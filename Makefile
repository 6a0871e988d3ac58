# `make repro` runs the pipeline, `make test` the tests, `make test-slow` those that take minutes (whole pipelines in clones),
# `make test-nightly` those that .ci/run leaves out (a team, a sweep, a queue at work); each sets up .venv first, once per
# requirements.txt. `make bench` tells how fast each step is, beside the least it could take. `make localize` adds what
# pipelines/localization, locate.py and train_actionformer_wrapper.py need. `make hri30` wakes pipelines/hri30, and runs it. `make
# mmaction2` sets up .venv-mmaction2, which sees what is in .venv and has MMAction2 beside it, and runs tests/mmaction2 there.
PYTHON ?= python3
VENV := .venv
MMACTION2 := .venv-mmaction2
BIN := $(abspath $(VENV))/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes --requirement
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

.PHONY: repro hri30 test test-slow test-nightly bench setup setup-tests localize mmaction2 lock
.DELETE_ON_ERROR:

repro: setup
	PATH="$(BIN):$$PATH" $(BIN)/dvc repro

# DVC does not see a pipeline that never ran (pipelines/.dvcignore says why)
hri30: setup
	sed -i '/hri30/d' pipelines/.dvcignore
	PATH="$(BIN):$$PATH" $(BIN)/dvc repro pipelines/hri30/dvc.yaml

test: setup-tests
	$(BIN)/ruff check stages tests benchmarks
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 -m "not slow and not nightly"

test-slow: setup-tests
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 -m slow

test-nightly: setup-tests
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile -m nightly

bench: setup-tests
	$(BIN)/python benchmarks/throughput.py --file benchmarks/throughput.md

setup: $(VENV)/installed

setup-tests: $(VENV)/installed-tests localize

localize: $(VENV)/installed-localize

# the copy is written last: an interrupted installation is repeated
$(VENV)/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) requirements.txt
	PATH="$(BIN):$$PATH" python .dvc/plots/offline.py
	cp requirements.txt $@

$(VENV)/installed-tests: $(VENV)/installed tests/requirements.txt
	$(INSTALL) tests/requirements.txt
	cp tests/requirements.txt $@

# ActionFormer comes as source only, and asks for a compiler and a second torch to build an extension for which it has a substitute
# of the same answers: where torch cannot be imported it builds a pure Python wheel instead, and nothing else would bear that name
$(VENV)/installed-localize: $(VENV)/installed requirements-localize.txt
	rm -rf $(VENV)/localize && mkdir -p $(VENV)/localize/without
	echo "raise ImportError" > $(VENV)/localize/without/torch.py
	PYTHONPATH="$(abspath $(VENV))/localize/without" $(BIN)/python -m pip wheel --disable-pip-version-check --quiet \
	  --require-hashes --no-deps --no-build-isolation --wheel-dir $(VENV)/localize --requirement requirements-localize.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-index \
	  $(VENV)/localize/actionformer-*-py3-none-any.whl $(VENV)/localize/pandas-*.whl
	cp requirements-localize.txt $@

mmaction2: $(MMACTION2)/installed
	OMP_NUM_THREADS=1 $(MMACTION2)/bin/python -m pytest tests/mmaction2

# A .pth file shows it the packages of .venv, after its own: torch is installed once, and MMAction2 never gets into .venv. As the
# versions of both belong together, it is made anew when either changes.
$(MMACTION2)/installed: $(VENV)/installed-tests requirements-mmaction2.txt
	rm -rf $(MMACTION2)
	$(BIN)/python -m venv --without-pip $(MMACTION2)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$($(MMACTION2)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/beneath.pth
	$(BIN)/python -m pip --python $(MMACTION2)/bin/python install --disable-pip-version-check --quiet --require-hashes --no-deps \
	  --requirement requirements-mmaction2.txt
	cp requirements-mmaction2.txt $@

# every version that requirements.in leads to, and the hashes of its files; --upgrade with `make lock UPGRADE=--upgrade`
lock: setup-tests
	$(LOCK) $(UPGRADE) requirements.in --output-file requirements.txt
	$(LOCK) $(UPGRADE) tests/requirements.in --output-file tests/requirements.txt
	$(LOCK) $(UPGRADE) --no-deps requirements-localize.in --output-file requirements-localize.txt
	$(LOCK) $(UPGRADE) --no-deps requirements-mmaction2.in --output-file requirements-mmaction2.txt
