# Thin: pyproject.toml and uv.lock say what is installed, tools/build_mmcv.py how mmcv is compiled.
TASK ?= det
WORKERS ?= 2
PYTHON ?= >=3.10,<3.13
COMMA := ,

# uv does the work; where there is none, pip brings it into .uv.
export UV := $(or $(shell command -v uv),.uv/bin/uv)
CLEAN_ENV = env -u VIRTUAL_ENV -u PYTHONPATH -u PYTHONHOME
# What decides what is installed, and where: an environment holds its own path.
READY := $(CURDIR) $(shell cat pyproject.toml uv.lock setup.py tools/build_mmcv.py | cksum)

# $(1) environment, $(2) its Python, $(3) what uv sync is to install, $(4) the mmcv that is built here
define environment
	@case "$$(cat $(1)/ready 2>/dev/null)" in '$(READY)') exit;; '$(CURDIR) '*|'') ;; *) rm -rf $(1);; esac; \
	{ test -x $(1)/bin/python || $(UV) venv -q --python '$(2)' $(1); } && \
	$(1)/bin/python tools/build_mmcv.py $(4) --needs && \
	UV_PROJECT_ENVIRONMENT=$(1) $(CLEAN_ENV) $(UV) sync --frozen $(3) --no-install-package $(4) \
		--compile-bytecode && \
	$(CLEAN_ENV) $(1)/bin/python tools/build_mmcv.py $(4) && \
	echo '$(READY)' > $(1)/ready && echo "$(1) is ready."
endef

# The ends of what the backbone runs with: $(1) environment, $(2) its Python, $(3) packages
define backbone
	$(UV) venv -q --clear --python $(2) $(1)
	$(UV) pip install -q --python $(1)/bin/python $(3) 'setuptools<81' pytest pytest-timeout \
		pytest-xdist hypothesis safetensors opencv-python-headless -e .
	$(1)/bin/python -m pytest @tests/backbone.txt -n $(WORKERS) --dist loadfile
endef

.PHONY: help setup peers upstream demo check docs requirements clean test test-upstream test-processors test-oldest test-newest

help:
	@echo "make demo [TASK=det]  train and run a small example: det, seg, cls, video, mim, all"
	@echo "make test [WORKERS=2] run all tests, in that many processes"
	@echo "make test-upstream    run those of the upstream OpenMMLab packages, in .venv-upstream"
	@echo "make test-processors  run the numeric ones as on processors without AVX-512 or without AVX2"
	@echo "make test-oldest, make test-newest  run those of the backbone on torch 2.0.1 and 2.13"
	@echo "make check            lint, and the arrows between the rooms"
	@echo "make docs             build the site, build/docs/index.html"
	@echo "make setup            make .venv (the others do it too when it is missing or out of date)"
	@echo "make requirements     write requirements.txt, for pip"
	@echo "make clean            remove .venv* and caches; data/ and work_dirs/ stay"
	@echo "PYTHON=/path/to/python chooses the interpreter (3.10 to 3.12) when .venv is made."

.uv/bin/uv:
	@for p in python3 python3.12 python3.11 python3.10; do "$$p" -c '' 2>&- || continue; \
		env -u PIP_USER "$$p" -m pip install -q --target .uv 'uv>=0.9,<1' >&2 && exit; \
		"$$p" -m venv .uv && .uv/bin/pip install -q 'uv>=0.9,<1' >&2 && exit; done 2>.uv.log; \
	tail -3 .uv.log; echo "The set-up needs uv, and pip could not bring it: \`pip install uv\`, or see" \
	"https://docs.astral.sh/uv, and run it again."; exit 1

setup: $(UV)
	@test ! -e .venv/setup.stamp || rm -rf .venv .venv-peers  # an older set-up made them
	$(call environment,.venv,$(PYTHON),,onedl-mmcv)

# Sees .venv through a .pth file, and adds transformers.
peers: setup
	@test "$$(cat .venv-peers/ready 2>/dev/null)" = '$(READY)' || { \
	UV_PROJECT_ENVIRONMENT=.venv-peers $(CLEAN_ENV) $(UV) sync -q --frozen --python .venv/bin/python \
		--only-group peers && \
	.venv/bin/python -c "import sysconfig as s; print(f'import site; site.addsitedir({s.get_path(\"purelib\")!r})')" \
		> "$$(echo .venv-peers/lib/python3.*/site-packages)/main.pth" && \
	echo '$(READY)' > .venv-peers/ready && echo ".venv-peers is ready."; }

upstream: $(UV)
	$(call environment,.venv-upstream,>=3.10$(COMMA)<3.12,--no-dev --group upstream,mmcv)

demo: setup
	@.venv/bin/python tools/demo.py $(TASK)

# Two processes of one thread each are faster than one of two; a file stays in one process.
test test-upstream test-processors test-oldest test-newest: export OMP_NUM_THREADS = 1
test: setup peers
	.venv/bin/python -m pytest tests -n $(WORKERS) --dist loadfile
	.venv-peers/bin/python -m pytest tests/with_transformers

test-upstream: upstream
	.venv-upstream/bin/python -m pytest @tests/upstream.txt -n $(WORKERS) --dist loadfile

# This processor acts as one without vector instructions, and as one with AVX2 and no AVX-512.
NUMERIC = .venv/bin/python -m pytest @tests/numeric.txt -n $(WORKERS) --dist loadfile
test-processors: setup
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE $(NUMERIC)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 $(NUMERIC)

test-oldest: $(UV)
	$(call backbone,.venv-oldest,3.9,torch==2.0.1 mmengine==0.10.7 mmcv-lite==2.1.0 'numpy<2')

test-newest: $(UV)
	$(call backbone,.venv-newest,3.12,torch==2.13.0 onedl-mmengine==0.10.12 'numpy<2.3')

check: setup
	.venv/bin/python -m ruff check .
	.venv/bin/lint-imports

docs: setup
	.venv/bin/python -m sphinx -W --keep-going -b html docs build/docs

# mmcv is built by tools/build_mmcv.py, this package is installed by `pip install -e .`.
requirements: $(UV)
	@$(UV) export -q --frozen --no-emit-project --no-emit-package onedl-mmcv -o requirements.txt
	@echo "requirements.txt is written: pip install --no-deps -r requirements.txt"

clean:
	rm -rf .venv* .uv .uv.log build dist *.egg-info requirements.txt
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
