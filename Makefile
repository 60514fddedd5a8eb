# Thin: what has to be decided is decided in tools/setup_env.py.
TASK ?= det
WORKERS ?= 2

# The first Python that runs starts the set-up, which then looks for one of a right version itself.
SETUP = @for p in .venv/bin/python $(PYTHON) python3.11 python3.12 python3.10 python3; do \
	"$$p" -c '' 2>/dev/null && exec env PYTHON="$(PYTHON)" "$$p" tools/setup_env.py $(1); done; \
	echo "The set-up needs Python 3.10, 3.11 or 3.12 and found no Python at all: install python3.11" \
	"python3.11-venv python3.11-dev (Debian, Ubuntu) or python3.11 python3.11-devel (Fedora)."; exit 1

.PHONY: help setup demo test check docs clean

help:
	@echo "make demo [TASK=det]  train and run a small example: det, seg, cls, video, mim, all"
	@echo "make test [WORKERS=2] run all tests, in that many processes"
	@echo "make check            lint, and the arrows between the rooms"
	@echo "make docs             build the site, build/docs/index.html"
	@echo "make setup            make .venv (the others do it too when it is missing or out of date)"
	@echo "make clean            remove .venv, .venv-peers and caches; data/ and work_dirs/ stay"
	@echo "PYTHON=/path/to/python chooses the interpreter (3.10 to 3.12) when .venv is made."

setup:
	$(call SETUP)

demo: setup
	@.venv/bin/python tools/demo.py $(TASK)

# Two processes of one thread each are faster than one of two; a file stays in one process.
test: export OMP_NUM_THREADS = 1
test:
	$(call SETUP,--peers)
	.venv/bin/python -m pytest tests -n $(WORKERS) --dist loadfile
	.venv-peers/bin/python -m pytest tests/with_transformers

check: setup
	.venv/bin/python -m ruff check .
	.venv/bin/lint-imports

docs: setup
	.venv/bin/python -m sphinx -W --keep-going -b html docs build/docs

clean:
	rm -rf .venv .venv-peers .venv.lock build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
