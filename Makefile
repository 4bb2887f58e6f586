# `make run` and `make test` install everything that they need; `make` lists the other targets.

PYTHON := .venv/bin/python
CREW := .venv/bin/crew
PIP_INSTALL = $$(tools/pip) install --quiet --disable-pip-version-check

INPUTS := 3000

.DEFAULT_GOAL := help
.PHONY: help run test check format unit soak chaos fuzz test-brokers test-pythons bench bench-jobs interrupts clean
.PHONY: rabbitmq rabbitmq-unless-url postgresql chromium

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

run: .venv/run rabbitmq-unless-url ## a broker, two workers and the quickstart gateway; Ctrl-C stops all of it
	@printf '%s\n' \
	    'When the gateway runs, open http://127.0.0.1:8888/ and' \
	    '  /stat /stat2                 which worker answers' \
	    '  /fast                        a task that never ends, answered after 3 seconds' \
	    '  /subscribe                   waits until /publish?text=hello or /publish2?text=hello is opened' \
	    '  /parallel                    two calls at once' \
	    'or try: $(CREW) call stat' ''
	@exec $(CREW) dev examples/quickstart/worker.py --gateway examples/quickstart/master.py --processes 2

test: .venv/installed rabbitmq postgresql chromium ## the tests, except those of make chaos
	@$(PYTHON) -m pytest -n 2 --dist loadfile

check: .venv/installed ## style, types, import contracts, insecure calls, advisories
	@.venv/bin/bandit --quiet --configfile pyproject.toml --recursive crew
	@$(PYTHON) tools/audit
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: .venv/installed ## let ruff fix what it can
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

unit: .venv/installed ## the tests that need no broker
	@$(PYTHON) -m pytest tests/unit

soak: .venv/installed rabbitmq postgresql ## the tests that repeat something, ten times as often
	@$(PYTHON) -m pytest --soak --chaos -m soak

chaos: .venv/installed rabbitmq postgresql ## brokers and processes that die, one after another
	@$(PYTHON) -m pytest --chaos -m chaos

fuzz: .venv/installed rabbitmq ## hostile messages and requests; INPUTS=100000 for a long run
	@$(PYTHON) -m pytest --fuzz $(INPUTS) -m fuzz tests/fuzz tests/integration/test_fuzz.py

test-brokers: .venv/installed ## the integration tests on newer versions of RabbitMQ; needs root and debootstrap
	@failed=; for version in 4.0 4.3; do \
	    programs=$$(tools/brokers $$version) || exit; \
	    echo "RabbitMQ $$version" >&2; \
	    CREW_RABBITMQ=$$programs $(PYTHON) -m pytest tests/integration || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "failed on RabbitMQ$$failed" >&2; exit 1; }

test-pythons: rabbitmq postgresql chromium ## the tests on each Python from 3.11 on that is installed
	@failed=; for python in $$(tools/pythons); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "Python $$version" >&2; \
	    $(MAKE) --no-print-directory .venv-$$version/installed VENV_PYTHON=$$python || exit; \
	    .venv-$$version/bin/python -m pytest -n 2 --dist loadfile || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "failed on Python$$failed" >&2; exit 1; }

bench: .venv/installed rabbitmq-unless-url ## the cost of a call, compared with bare pika
	@$(PYTHON) benchmarks/rpc.py

bench-jobs: .venv/installed rabbitmq-unless-url ## jobs a second, and the delay until a waiting client is informed
	@$(PYTHON) benchmarks/jobs.py

interrupts: .venv/installed rabbitmq-unless-url ## how soon a task that hangs is interrupted
	@$(PYTHON) benchmarks/interrupt.py

clean: ## remove everything that was made here, the private broker too
	@if [ -x $(CREW) ]; then $(CREW) broker stop; fi
	@rm -rf .venv .venv-* .crew .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@rm -rf build dist crew.egg-info
	@find crew tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# Without what only tests need, and without compiling what is perhaps never imported: the first answer comes sooner.
.venv/run: pyproject.toml | .venv/bin/python
	@echo 'installing crew into .venv' >&2
	@$(PIP_INSTALL) --no-compile --editable '.[gateway]'
	@touch $@

.venv/installed: pyproject.toml | .venv/bin/python
	@echo 'installing crew and its tools into .venv' >&2
	@$(PIP_INSTALL) --editable '.[all,dev]'
	@touch .venv/run $@

.venv/bin/python:
	@python=$$(tools/python) && without= && \
	    { ! $$python -m pip --python "$$(command -v $$python)" --version >/dev/null 2>&1 || without=--without-pip; } && \
	    $$python -m venv $$without .venv

.venv-%/installed: pyproject.toml
	@[ -x .venv-$*/bin/python ] || $(or $(VENV_PYTHON),python$*) -m venv .venv-$*
	@echo 'installing crew and its tools into .venv-$*' >&2
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

rabbitmq: .venv/run
	@tools/rabbitmq

rabbitmq-unless-url: .venv/run
	@[ -n "$$CREW_AMQP_URL" ] || tools/rabbitmq

postgresql:
	@tools/postgresql

chromium:
	@tools/chromium
