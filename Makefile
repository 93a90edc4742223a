# SPDX-License-Identifier: MIT
# The front door only: underneath is meson, what is longer than a line is in tools/.

BUILD = build
PREFIX = /usr/local

all: build

# build/pagetide
build:
	@tools/install-deps build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) --prefix=$(PREFIX)
	@meson compile -C $(BUILD)

# the main job: redis-server at a third of its memory
demo: build
	@tools/install-deps demo
	@tools/demo $(BUILD)/pagetide

# builds with gcc and clang, all tests, sanitizers, layer scan
check:
	@tools/install-deps check
	@tools/check

# and valgrind, soaks, fuzzers, the protocol model, clang-tidy, gcc -fanalyzer
check-all:
	@tools/install-deps check-all
	@tools/check --all

bench: build
	@tools/install-deps bench
	@tools/bench $(BUILD)/pagetide

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) build-check

.PHONY: all build demo check check-all bench install clean
