# make demo   the whole road once: install what is missing, build, train, serve, ask, trace
# make package  a .deb and a relocatable archive in dist/
# make check  install what is missing, build, run every test
PREFIX ?= /usr/local
BUILD := build/release
.DEFAULT_GOAL := build
.PHONY: demo check check-full soak build setup bench package format install clean

demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory build TARGETS="loam loam-shim loam-gateway"
	@scripts/demo $(BUILD)/bin

check:
	@scripts/setup all
	@$(MAKE) --no-print-directory build
	@scripts/check $(BUILD)

# What takes longer than a change should wait for: sanitizers, clang's analysis, hundreds of kills.
check-full: check
	@scripts/check-full

# An hour of random load with kills, on a root node and on a rootless one; SECONDS=N for another while.
SECONDS ?= 3600
soak: build
	@LOAM_SOAK_SECONDS=$(SECONDS) LOAM_BIN=$(BUILD)/bin /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/system/test_soak.py

build:
	@cmake --preset release >/dev/null
	@cmake --build --preset release $(if $(TARGETS),--target $(TARGETS))

setup:
	@scripts/setup all

# dist/: a .deb and a relocatable archive, from a build of their own without tests and crash points.
package:
	@scripts/setup all
	@cmake --preset package >/dev/null
	@cmake --build --preset package
	@scripts/package build/package dist

bench: build
	@/usr/bin/python3 tests/bench/start.py --bin $(BUILD)/bin
	@/usr/bin/python3 tests/bench/jobs.py --bin $(BUILD)/bin
	@cmake --build --preset release --target decide_bench >/dev/null
	@$(BUILD)/src/decide_bench

format:
	clang-format -i $$(git ls-files 'src/*.cc' 'src/*.h' 'src/*.c')

install: build
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf build
