# What CI runs and what you run are the same targets. `make` alone lists them.

PYTHON ?= python3
VERSIONS := 3.10 3.11 3.12 3.13
VENV := .venv
BIN := $(VENV)/bin
LINT := .venv-lint/bin
SOURCES := $(wildcard csrc/*.[ch] python/prefork/*.p* python/prefork/*/*.py) CMakeLists.txt \
           pyproject.toml tools/cffi_core.py
SEEDS := tests/c/seeds.txt
ZIG = $(shell .venv-cross/bin/python -c 'import ziglang; print(*ziglang.__path__)')
MACOS := csrc/poll_kqueue.c csrc/platform_macos.c csrc/process_macos.c
CLANG ?= clang
FUZZ_TARGETS := frame control pool
FUZZ_SECONDS ?= 300
CMAKE = $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
        -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPF_EXTENSION=OFF -DPF_TESTS=ON -DPF_WERROR=ON

.DEFAULT_GOAL := help
.PHONY: help check-host demo test test-c test-python test-python-cffi test-hard test-address \
        test-thread test-crash test-celery test-celery-matrix celery-better test-wakeups test-chaos test-soak \
        test-extension-address count mutants simulate fuzz test-fuzz chaos soak test-all wheel bench \
        bench-plot bench-failures bench-celery demo-celery killmatrix killmatrix-self failures \
        lint cross ci clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

check-host: ## is there what a build needs? names the Debian package that is missing
	@command -v $(PYTHON) >/dev/null || { echo "missing: Debian package python3"; exit 1; }
	@command -v cc >/dev/null || { echo "missing: Debian package gcc"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "missing: Debian package python3-venv"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; \
	    raise SystemExit(not os.path.exists(s.get_path("include") + "/Python.h"))' || \
	    { echo "missing: Debian package python3-dev"; exit 1; }

# One stamp for the venv's tools, one for the installed library.
$(VENV)/tools: | check-host
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet cmake ninja build
	@touch $@

$(VENV)/installed: $(VENV)/tools $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[cli,test]'
	@touch $@

demo: $(VENV)/installed ## real work on real input, with a killer at work
	$(BIN)/python examples/demo.py

# The library is installed, without a word, while the C tests run.
test: ## C tests, a short simulation, the Python suite: PREFORK_CORE=cffi
	@$(MAKE) --jobs=2 test-c $(VENV)/installed
	@$(MAKE) test-python

test-c: $(VENV)/tools ## C tests plain, and the simulation: recorded seeds and a random one
	$(CMAKE) -B build/c
	$(BIN)/cmake --build build/c --parallel 2
	$(BIN)/ctest --test-dir build/c --parallel 2 --output-on-failure
	build/c/tests/c/simulate --seeds $(SEEDS) --steps 3000000

test-python: $(VENV)/installed ## the Python suite on one Python: PYTHON=python3 PREFORK_CORE=cffi
	$(BIN)/python -m pytest tests

# In a process group of its own: it may run beside the other, and each looks what its group has left.
test-python-cffi: $(VENV)/installed ## the same over the binding by cffi
	PREFORK_CORE=cffi setsid --wait $(BIN)/python -m pytest tests

# A venv for each release of Celery.
CELERY ?= 5.7
CELERIES := 5.6 5.7
CELERY_VENV := .venv-celery-$(CELERY)

.venv-celery-%/installed: $(SOURCES) tests/celery/requirements.txt | check-host
	$(PYTHON) -m venv .venv-celery-$*
	.venv-celery-$*/bin/python -m pip install --quiet -r tests/celery/requirements.txt 'celery==$*.*'
	rm -rf .venv-celery-$*/sdist && cd .venv-celery-$* && bin/python -m pip download --quiet \
	    --no-deps --no-binary celery --dest sdist \
	    "celery==$$(bin/python -c 'import celery; print(celery.__version__)')"
	.venv-celery-$*/bin/python -m pip install --quiet '.[celery]'
	@touch $@

test-celery: $(CELERY_VENV)/installed ## the pool under one Celery, with real workers and brokers: CELERY=5.7 TESTS= POOL=stock
	@command -v redis-server >/dev/null || { echo "missing: Debian package redis-server"; exit 1; }
	@test -e /usr/sbin/rabbitmq-server || { echo "missing: Debian package rabbitmq-server"; exit 1; }
	$(CELERY_VENV)/bin/python -m pytest $(or $(TESTS),tests/celery$(if $(filter stock,$(POOL)),/better)) $(addprefix --place=,$(PLACE))

# By hand: an hour. All tests of real workers in every place.
PLACES := redis rabbitmq redis-threads rabbitmq-threads
test-celery-matrix: ## each Celery over redis and RabbitMQ, in hub and in thread mode: counts
	@mkdir -p build/celery-matrix
	@failed=0; for celery in $(CELERIES); do for place in $(PLACES); do \
	    log=build/celery-matrix/$$celery-$$place.log; \
	    $(MAKE) test-celery CELERY=$$celery PLACE=$$place >$$log 2>&1 || failed=1; \
	    grep -E '^(FAILED|ERROR)' $$log; \
	    printf '%s  %-17s %s\n' $$celery $$place "$$(grep -E '^=+ .* in [0-9.]+s' $$log | tail -1)"; \
	done; done; exit $$failed

celery-better: ## what both pools say, this one and Celery's own, and the table in docs/celery.md
	@for celery in $(CELERIES); do \
	    KEEP_VERDICTS=1 $(MAKE) test-celery CELERY=$$celery POOL=stock; \
	    KEEP_VERDICTS=1 $(MAKE) test-celery CELERY=$$celery TESTS=tests/celery/better; \
	done
	PYTHONPATH=tests/celery $(CELERY_VENV)/bin/python -m better

test-hard: test-address test-thread test-crash test-wakeups count mutants test-fuzz \
           killmatrix-self test-extension-address test-chaos test-soak ## all that is meant to break the pool

test-address: $(VENV)/tools ## C tests and simulation under ASan and UBSan
	$(CMAKE) -B build/address -DPF_SANITIZE=address
	$(BIN)/cmake --build build/address --parallel 2
	PF_WAKEUPS_MS=8000 $(BIN)/ctest --test-dir build/address --output-on-failure
	build/address/tests/c/simulate --seeds $(SEEDS) --steps 10000000

test-thread: $(VENV)/tools ## C tests under TSan
	$(CMAKE) -B build/thread -DPF_SANITIZE=thread
	$(BIN)/cmake --build build/thread --parallel 2
	PF_WAKEUPS_MS=8000 $(BIN)/ctest --test-dir build/thread --output-on-failure

test-crash: $(VENV)/tools ## a worker killed at a thousand more instants between claim and sleep (two minutes)
	$(CMAKE) -B build/c
	$(BIN)/cmake --build build/c --parallel 2
	PF_CRASH_DRAWN=1000 build/c/tests/c/test_crash

test-wakeups: $(VENV)/tools ## lost wake-ups: 24 s of tasks for sleepers, not 6 s as in `make test`
	$(CMAKE) -B build/c
	$(BIN)/cmake --build build/c --parallel 2
	PF_WAKEUPS_MS=8000 build/c/tests/c/test_wakeups
	PF_WAKEUPS_MS=8000 build/c/tests/c/test_pool_tasks a_guest_and_its_workers_miss_no_call

.venv-address/installed: $(VENV)/tools $(SOURCES)
	$(PYTHON) -m venv .venv-address
	.venv-address/bin/python -m pip install --quiet -Cbuild-dir=build/extension-address \
	    -Ccmake.define.PF_SANITIZE=address '.[cli,test]'
	@touch $@

# The signals of crashes are the tests' own. A report of a worker's is found in its file.
REPORTS = $(abspath build/extension-address/reports)
test-extension-address: .venv-address/installed ## tests of lost workers, the extension under ASan
	rm -rf $(REPORTS) && mkdir -p $(REPORTS)
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:\
	log_path=$(REPORTS)/asan \
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$(REPORTS)/ubsan \
	    .venv-address/bin/python -m pytest -q $(addprefix tests/test_,$(addsuffix .py,\
	        tasks crash restart_resize zygote unruly_workers))
	@if ls $(REPORTS)/* 2>/dev/null; then cat $(REPORTS)/*; exit 1; fi

test-chaos: $(VENV)/installed ## 10 s of chaos
	$(BIN)/python tests/chaos.py --seconds 10

test-soak: $(VENV)/installed ## 2,000 recycles
	$(BIN)/python tests/soak.py --recycles 2000 --gib 0

chaos: $(VENV)/installed ## random signals to workers and zygotes under load: SECONDS=120 SEED=
	$(BIN)/python tests/chaos.py --seconds $(or $(SECONDS),120) $(addprefix --seed ,$(SEED))

soak: $(VENV)/installed ## 100,000 recycles and 3 GiB there and back: RECYCLES= GIB=
	$(BIN)/python tests/soak.py --recycles $(or $(RECYCLES),100000) --gib $(or $(GIB),3)

count: $(VENV)/tools ## instructions per task, by callgrind, within 2 % of what is recorded: RECORD=1 TABLE=1
	@command -v valgrind >/dev/null || { echo "missing: Debian package valgrind"; exit 1; }
	$(CMAKE) -B build/c
	$(BIN)/cmake --build build/c --parallel 2 --target harness
	$(PYTHON) tests/c/count/count.py build/c/tests/c/harness \
	    $(if $(RECORD),--record) $(if $(TABLE),--table)
	$(if $(RECORD)$(TABLE),,$(PYTHON) tests/c/count/mutants.py build/c/libprefork_core.a)

mutants: check-host ## does the simulation notice a core that is wrong in one place?
	$(PYTHON) tests/c/simulate/mutants.py

# Each processor from a seed of its own; seeds count up, so far enough from each other.
simulate: $(VENV)/tools ## a long simulation on all processors: STEPS=1000000000 SEED=
	$(CMAKE) -B build/c
	$(BIN)/cmake --build build/c --parallel 2
	cores=$$(nproc); seed=$(or $(SEED),$$(date +%s)); \
	seq 0 $$((cores - 1)) | xargs -P $$cores -I@ sh -c 'build/c/tests/c/simulate --steps \
	    '$$(($(or $(STEPS),1000000000) / cores))' --seed $$(('$$seed' + @ * 100000000))'

build/fuzz/built: $(VENV)/tools $(wildcard csrc/*.[ch] tests/fuzz/*.[ch] tests/c/simulate/*.[ch])
	@command -v $(CLANG) >/dev/null || { echo "missing: Debian package clang"; exit 1; }
	$(CMAKE) -B build/fuzz -DCMAKE_C_COMPILER=$(CLANG) -DPF_SANITIZE=fuzzer
	$(BIN)/cmake --build build/fuzz --parallel 2
	@touch $@

fuzz: build/fuzz/built ## libFuzzer, each target in turn: FUZZ_SECONDS=300
	for target in $(FUZZ_TARGETS); do \
	    sh tests/fuzz/fuzz.sh $$target $(FUZZ_SECONDS) || exit 1; \
	done
	CLANG=$(CLANG) $(PYTHON) tests/fuzz/mutants.py

test-fuzz: build/fuzz/built ## 30 s of each target, two at a time
	printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I@ sh tests/fuzz/fuzz.sh @ 30

test-all: ## the Python suite on every supported Python; fails on a missing one
	@for version in $(VERSIONS); do sh tools/test_version.sh $$version || exit 1; done

wheel: $(VENV)/tools ## sdist and wheel, and the wheel tried in an empty venv without a compiler
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tools/check_wheel.py dist README.md

KILLMATRIX = PYTHONPATH=tests $(BIN)/python -m killmatrix
RIVALS := .venv-rivals

$(RIVALS)/installed: tests/killmatrix/rivals.txt | check-host
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet -r tests/killmatrix/rivals.txt
	@touch $@

killmatrix-self: $(VENV)/installed ## the kill matrix of prefork alone, strictly
	$(KILLMATRIX)

ifdef LIST
killmatrix: $(VENV)/installed
	@$(KILLMATRIX) --list
else ifdef MUTANTS
killmatrix: $(VENV)/installed
	$(KILLMATRIX) --mutants
else
killmatrix: $(VENV)/installed $(RIVALS)/installed ## prefork, other pools, tables: ROWS=, LIST=1, MUTANTS=1
	$(KILLMATRIX) $(ROWS)
	$(KILLMATRIX) --failures
	$(KILLMATRIX) --compare --python $(RIVALS)/bin/python $(ROWS)
	$(KILLMATRIX) --table --python $(RIVALS)/bin/python
endif

failures: $(VENV)/installed ## docs/failures.md, of what the rows of the kill matrix say: ROWS= FRESH=1
	$(KILLMATRIX) $(ROWS)
	$(KILLMATRIX) --failures $(if $(FRESH),--fresh)

# All pools in one interpreter, ours too.
BENCH_VENV := .venv-bench
SPEED := bench/speed/results.json
$(BENCH_VENV)/rivals: bench/speed/requirements.txt tests/killmatrix/rivals.txt | check-host
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet -r bench/speed/requirements.txt
	@touch $@

$(BENCH_VENV)/installed: $(BENCH_VENV)/rivals $(SOURCES)
	$(BENCH_VENV)/bin/python -m pip install --quiet '.[test]'
	@touch $@

# The single steps first: a missed bound ends it.
bench: $(BENCH_VENV)/installed ## single steps, then beside other pools and the floor, with bounds: FIGURES= ROUNDS=7 KEEP=1
	$(BENCH_VENV)/bin/python -m pytest bench -q -o timeout=0
	$(BENCH_VENV)/bin/python bench/speed $(FIGURES) $(addprefix --rounds ,$(ROUNDS)) \
	    $(if $(KEEP),--json $(SPEED))

bench-plot: $(BENCH_VENV)/installed ## plot and tables of docs/performance.md, of what `make bench KEEP=1` has kept
	$(BENCH_VENV)/bin/python bench/speed/plot.py $(SPEED) docs/performance.svg
	$(BENCH_VENV)/bin/python bench/speed/results.py $(SPEED) docs/performance.md

FAILURES = $(BIN)/python bench/failures --rivals $(RIVALS)/bin/python
bench-failures: $(VENV)/installed $(RIVALS)/installed ## how long failures take, beside the kernel: FIGURES=
	$(FAILURES) $(FIGURES)

bench-celery: $(CELERY_VENV)/installed ## a Celery worker beside one with the stock pool: FIGURES= ROUNDS=9 TASKS=
	@command -v redis-server >/dev/null || \
	    { echo "missing: Debian package redis-server"; exit 1; }
	$(CELERY_VENV)/bin/python bench/celery $(FIGURES) $(addprefix --rounds ,$(ROUNDS)) \
	    $(addprefix --tasks ,$(TASKS))

demo-celery: $(CELERY_VENV)/installed ## an application on this pool, end to end, without a server
	$(CELERY_VENV)/bin/python examples/celery_app/demo.py

# A venv of their own keeps the linters and what they need out of the tests.
.venv-lint/installed: pyproject.toml | check-host
	$(PYTHON) -m venv .venv-lint
	$(LINT)/python -m pip install --quiet '.[lint]'
	@touch $@

lint: $(VENV)/tools .venv-lint/installed ## ruff, mypy --strict, clang-format, clang-tidy
	$(LINT)/ruff check python tests bench examples tools
	$(LINT)/ruff format --check python tests bench examples tools
	$(LINT)/mypy
	$(LINT)/mypy bench/failures
	$(LINT)/mypy bench/celery
	$(LINT)/mypy bench/speed
	$(LINT)/clang-format --dry-run -Werror csrc/*.[ch] tests/c/*.[ch] \
	    tests/c/simulate/*.[ch] tests/c/count/*.c tests/fuzz/*.[ch] bench/*/*.c
	$(CMAKE) -B build/lint -DPF_TESTS=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
	$(LINT)/clang-tidy --quiet -p build/lint $(filter-out $(MACOS),$(wildcard csrc/*.c))

# zig is a compiler that brings other systems' headers. Half a gigabyte: no other target wants it.
.venv-cross/installed: | check-host
	$(PYTHON) -m venv .venv-cross
	.venv-cross/bin/python -m pip install --quiet ziglang==0.17.0
	@touch $@

cross: $(VENV)/tools .venv-lint/installed .venv-cross/installed ## compile the core for macOS
	for arch in aarch64 x86_64; do \
	    $(CMAKE) -B build/$$arch-macos --toolchain tools/macos.cmake -DARCH=$$arch \
	        -DZIG=$(ZIG)/zig && \
	    $(BIN)/cmake --build build/$$arch-macos --parallel 2 || exit 1; \
	done
	$(LINT)/clang-tidy --quiet $(MACOS) -- -target arm64-apple-macos -std=c11 -iquote csrc \
	    -nostdinc -isystem $(ZIG)/lib/include -isystem $(ZIG)/lib/libc/include/any-darwin-any

ci: ## what CI runs
	$(MAKE) --jobs=2 test-c $(VENV)/installed
	$(MAKE) --jobs=2 --output-sync=target test-python test-python-cffi
	$(MAKE) test-celery
	$(MAKE) test-hard
	$(MAKE) lint
	$(MAKE) cross
	$(MAKE) wheel

clean: ## remove what was built
	rm -rf build dist $(VENV) .venv-lint .venv-cross .venv-address .venv-celery-* $(RIVALS) \
	    $(BENCH_VENV) .venvs
