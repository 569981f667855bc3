# make demo   the whole road once: install what is missing, build, train, serve, ask, trace
# make check  install what is missing, build, run every test
PREFIX ?= /usr/local
BUILD := build/release
.DEFAULT_GOAL := build
.PHONY: demo check check-full build setup bench format install clean

demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@scripts/demo $(BUILD)/bin

check:
	@scripts/setup all
	@$(MAKE) --no-print-directory build
	@scripts/check $(BUILD)

# What takes longer than a change should wait for: sanitizers, hundreds of kills.
check-full: check
	@scripts/check-full

build:
	@cmake --preset release >/dev/null
	@cmake --build --preset release

setup:
	@scripts/setup all

bench: build
	@/usr/bin/python3 tests/bench/start.py --bin $(BUILD)/bin

format:
	clang-format -i $$(git ls-files 'src/*.cc' 'src/*.h' 'src/*.c')

install: build
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build
