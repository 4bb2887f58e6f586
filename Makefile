# `make run` and `make test` install what they need; `make` lists all targets.

PYTHON := .venv/bin/python
CREW := .venv/bin/crew
PIP_INSTALL = $$(tools/pip) install --quiet --disable-pip-version-check

INPUTS := 3000
WORKERS := 4

# More workers than cores, as tests often wait. Each file stays in one worker, because its tests share processes; the
# unit tests, which wait least, come last and keep all workers busy to the end. Then the tests that need idle cores.
TESTS = -m pytest -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TESTS_ALONE = -m pytest -m alone
# These tests keep a core busy, or wait for brokers that restart: two files at a time, then those that need both cores.
CHAOS = -m pytest --chaos -m 'chaos and not alone' -n 2 --dist loadfile --no-loadscope-reorder
CHAOS_ALONE = -m pytest --chaos -m 'chaos and alone'

# Containers often set it. Then each process that the tests start would compile crew anew, for a third of its CPU time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test check format unit mutants soak chaos fuzz test-brokers test-pythons \
        bench bench-peers bench-calls bench-guard bench-jobs bench-bodies bench-prefetch bench-startup bench-scale \
        bench-types interrupts clean
.PHONY: rabbitmq rabbitmq-unless-url postgresql chromium

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

install: .venv/run ## install crew into .venv

run: .venv/run rabbitmq-unless-url ## run a broker, two workers and the quickstart gateway; Ctrl-C stops everything
	@printf '%s\n' \
	    'When the gateway is running, open http://127.0.0.1:8888/ and' \
	    '  /stat /stat2                 the worker process that replied' \
	    '  /fast                        a task that never ends: a timeout after 3 seconds' \
	    '  /subscribe                   waits until you open /publish?text=hello or /publish2?text=hello' \
	    '  /parallel                    two calls at the same time' \
	    'or run: $(CREW) call stat' ''
	@exec $(CREW) dev examples/quickstart/worker.py --gateway examples/quickstart/master.py --processes 2

test: .venv/installed rabbitmq postgresql chromium ## run all tests except those of make chaos
	@status=0; $(PYTHON) $(TESTS) || status=$$?; $(PYTHON) $(TESTS_ALONE) || status=$$?; exit $$status

check: .venv/installed ## check style, types, import contracts, insecure calls and security advisories
	@.venv/bin/bandit --quiet --configfile pyproject.toml --recursive crew
	@$(PYTHON) tools/audit
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: .venv/installed ## format the sources, and fix what ruff can fix
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

unit: .venv/installed ## run the tests that need no broker
	@$(PYTHON) -m pytest tests/unit

mutants: .venv/installed ## change the modules of tools/mutants: do unit tests fail? MODULES=crew/duration.py for one of them
	@$(PYTHON) tools/mutants $(MODULES)

soak: .venv/installed rabbitmq postgresql ## run the repeating tests with ten times the repetitions
	@$(PYTHON) -m pytest --soak --chaos -m soak

chaos: .venv/installed rabbitmq postgresql ## run the tests that kill brokers and processes
	@status=0; $(PYTHON) $(CHAOS) || status=$$?; $(PYTHON) $(CHAOS_ALONE) || status=$$?; exit $$status

fuzz: .venv/installed rabbitmq ## send hostile messages and requests; INPUTS=100000 for a long run
	@$(PYTHON) -m pytest --fuzz $(INPUTS) -m fuzz tests/fuzz tests/integration/test_fuzz.py tests/unit/protocol/encoding

test-brokers: .venv/installed ## run the integration tests on newer RabbitMQ versions; needs root and debootstrap
	@failed=; for version in 4.0 4.3; do \
	    programs=$$(tools/brokers $$version) || exit; \
	    echo "RabbitMQ $$version" >&2; \
	    CREW_RABBITMQ=$$programs $(PYTHON) -m pytest tests/integration || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "failed on RabbitMQ$$failed" >&2; exit 1; }

test-pythons: rabbitmq postgresql chromium ## run the tests on each installed Python, 3.11 or newer
	@failed=; for python in $$(tools/pythons); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "Python $$version" >&2; \
	    $(MAKE) --no-print-directory .venv-$$version/installed VENV_PYTHON=$$python || exit; \
	    .venv-$$version/bin/python $(TESTS) && .venv-$$version/bin/python $(TESTS_ALONE) || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "failed on Python$$failed" >&2; exit 1; }

bench: .venv/installed rabbitmq ## measure crew beside bare pika, and beside what make bench-peers has installed: a report
	@PYTHONPATH=benchmarks:$$PYTHONPATH $(PYTHON) -m suite

bench-peers: .venv-peers/installed ## install the systems that make bench compares crew with, into .venv-peers
	@tools/peer-servers

bench-calls: .venv/installed rabbitmq-unless-url ## measure the cost of a call, compared with bare pika alone
	@$(PYTHON) benchmarks/rpc.py

bench-guard: .venv/installed rabbitmq ## has a call become slower? BASE=COMMIT; default: the merge-base with main, or the parent
	@PYTHONPATH=benchmarks:$$PYTHONPATH $(PYTHON) -m guard $(if $(BASE),--base $(BASE))

bench-jobs: .venv/installed rabbitmq-unless-url ## measure jobs per second, and the delay until a waiting client gets the result
	@$(PYTHON) benchmarks/jobs.py

bench-bodies: .venv/installed ## measure calls with large bodies, compared with bare pika
	@$(PYTHON) benchmarks/bodies.py

bench-prefetch: .venv/installed rabbitmq-unless-url ## measure throughput and the wait of urgent calls, with adaptive and fixed prefetch
	@$(PYTHON) benchmarks/prefetch.py

bench-startup: .venv/installed rabbitmq-unless-url ## measure imports, the start of workers with one and many tasks, and idle memory
	@$(PYTHON) benchmarks/startup.py

bench-scale: .venv/installed rabbitmq ## measure how costs grow; PART=restart for one part; CREW_RABBITMQ for another RabbitMQ
	@PYTHONPATH=benchmarks:$$PYTHONPATH $(PYTHON) -m scale $(addprefix --part ,$(PART))

bench-types: .venv/installed rabbitmq-unless-url ## measure what types cost: a call with a dataclass, compared with one with a dict
	@$(PYTHON) benchmarks/typed.py

interrupts: .venv/installed rabbitmq-unless-url ## measure how soon hanging tasks are interrupted
	@$(PYTHON) benchmarks/interrupt.py

clean: ## remove everything that make created, including the private broker
	@if [ -x $(CREW) ]; then $(CREW) broker stop; fi
	@rm -rf .venv .venv-* .crew .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@rm -rf build dist crew.egg-info
	@find crew tests examples benchmarks tools -name __pycache__ -prune -exec rm -rf {} +

# Without test dependencies, and without compiling modules that may never be imported: `make run` starts sooner.
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

.venv-peers/installed: benchmarks/peers/requirements.txt
	@[ -x .venv-peers/bin/python ] || $$(tools/python) -m venv .venv-peers
	@echo 'installing other systems into .venv-peers' >&2
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv-%/installed: pyproject.toml
	@[ -x .venv-$*/bin/python ] || $(or $(VENV_PYTHON),python$*) -m venv .venv-$*
	@echo 'installing crew and its tools into .venv-$*' >&2
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

rabbitmq: .venv/run ## install RabbitMQ with apt or brew, if it is missing
	@tools/rabbitmq

rabbitmq-unless-url: .venv/run
	@[ -n "$$CREW_AMQP_URL" ] || tools/rabbitmq

postgresql:
	@tools/postgresql

chromium:
	@tools/chromium
