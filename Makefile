# KDHT: verbs for people and for CI. `make help` lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Nothing in the product needs a C compiler.
export CGO_ENABLED ?= 0

# -trimpath: the same program wherever it is built. netgo: gok sets it for images, and package net and what imports it would be compiled
# once more for them; without a C compiler it changes nothing. The other tags leave out of the admin plane's tailscale.com what the program
# has no use for (image/pack/tags.go). Without them everything works as well, 3.4 MB larger.
comma := ,
export GOFLAGS := $(shell go env GOFLAGS) -trimpath -tags=netgo,$(subst $(eval ) ,$(comma),$(shell cat image/pack/tags.txt))

BIN   := bin/kdht
STATE ?= var
ARGS  ?=

# 1: a test that the machine cannot run fails instead of being skipped. So it is for root, unless KDHT_REQUIRE says other.
REQUIRE = $(or $(KDHT_REQUIRE),$(if $(filter 0,$(shell id -u)),1))

.PHONY: help
help: ## list these targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/kdht
	@go build -o $(BIN) ./appliance/kdht

.PHONY: run
run: build ## build and run one node: UDP port 6881, page on :8080, state in ./var (STATE=, ARGS= change it)
	@exec $(BIN) serve --state $(STATE) $(ARGS)

.PHONY: setup
setup: ## install what the tests need (Debian packages when root; otherwise say the command)
	@.ci/setup

# Emulators only compute. Beside other tests they take the CPU that these leave (SCHED_IDLE), and so disturb none that looks at time.
IDLE := $(if $(shell command -v chrt),chrt --idle 0,nice -n 19)
BESIDE =

# -count=1: of the programs that tests build and run, go's cache of results knows nothing. -vet=off: make lint does that, for all at once.
GOTEST = KDHT_REQUIRE=$(REQUIRE) go test -count=1 -vet=off -ldflags=-w -timeout 30m
KERNELS = ./image/kernels
# What looks at time, or has the whole machine work, is alone but for emulators. The rest mostly waits: beside each other.
ALONE = ./appliance ./appliance/conformance ./appliance/discover ./appliance/fleet/... ./appliance/linklocal ./bpf/... ./router/...
REST = $$(comm -23 <(go list ./... | sort) <(go list $(ALONE) $(KERNELS) | sort))

.PHONY: test
test: setup ## run every test (as root: also namespaces, XDP, real clients, a browser, three kernels in QEMU)
	@$(MAKE) --no-print-directory -j2 test-here test-kernels BESIDE='$(IDLE)'

.PHONY: test-here
test-here: setup ## ... but those in QEMU
	@$(GOTEST) -p 1 $(ALONE)
	@$(GOTEST) -p 3 $(REST)
	@KDHT_REQUIRE=$(REQUIRE) go test -C appliance/browser -count=1 -vet=off -timeout 10m ./...

.PHONY: test-kernels
test-kernels: setup ## ... those in QEMU alone: the kernel half, /perm and the flashing of a stick on the stock kernels
	@$(BESIDE) env $(GOTEST) $(KERNELS)

.PHONY: test-headscale
test-headscale: setup ## the admin plane against a real control server, Headscale, which is built from its own module (root; minutes the first time)
	@KDHT_HEADSCALE=1 KDHT_REQUIRE=$(REQUIRE) go test -count=1 -timeout 20m -run '^TestHeadscale$$' -v ./appliance/admin $(ARGS)

.PHONY: test-image
test-image: setup ## boot the images in virtual machines and test them (root; minutes more the first time, for Headscale; logs of failures in bin/logs)
	@KDHT_IMAGE=1 KDHT_LOGS=$(CURDIR)/bin/logs KDHT_REQUIRE=$(REQUIRE) \
		go test -count=1 -vet=off -timeout 40m -parallel 3 -v ./image/boot $(ARGS)

.PHONY: soak-image
soak-image: setup ## cut the power of an update at CUTS points (default 300): replayed, every 25th booted (root)
	@KDHT_CUTS=$(or $(CUTS),300) KDHT_IMAGE=1 KDHT_LOGS=$(CURDIR)/bin/logs KDHT_REQUIRE=$(REQUIRE) \
		go test -count=1 -timeout 3h -v -run TestUpdate/cuts ./image/boot $(ARGS)

.PHONY: demo
demo: build ## a fleet of 20 nodes in network namespaces, XDP on each, on one screen (root)
	@exec go run ./appliance/fleet/demo $(ARGS)

.PHONY: fleet
fleet: setup ## recursion in a network of 200 real nodes, beside libtorrent, with delays and faults, as a table (root; 10 GB of memory, minutes)
	@go run ./appliance/fleet/experiment $(ARGS)

.PHONY: bench
bench: ## ratios against a bare XDP reflector and libtorrent, as a table (root)
	@.ci/setup && go run ./bpf/bench $(ARGS)

.PHONY: sim
sim: ## simulate networks of up to a million nodes: router/sim/scale.md, .json and the plot .svg (minutes)
	@go run ./router/sim/scale $(ARGS)
	@go run -C router/sim/plot .

.PHONY: image
image: ## build the disk image for this machine's architecture: bin/image/kdht-*.img
	@go run ./image/build image $(ARGS)

.PHONY: image-amd64 image-arm64 image-rpi
image-amd64: ## ... for PCs (BIOS and UEFI)
image-arm64: ## ... for arm64 machines with UEFI
image-rpi: ## ... for Raspberry Pi 4 and 5
image-amd64 image-arm64 image-rpi: image-%:
	@go run ./image/build image $* $(ARGS)

.PHONY: flash
flash: ## build an image, write it to DEVICE=/dev/sdX and read it back (INSTANCE=rpi; asks before)
	@go run ./image/build flash $(or $(DEVICE),$(error say which disk: make flash DEVICE=/dev/sdX)) $(if $(INSTANCE),--instance $(INSTANCE)) $(ARGS)

.PHONY: vm
vm: ## run the appliance in QEMU, its disk kept in var/vm: page on :8080, DHT on 6881 (INSTANCE=, ARGS=--new)
	@go run ./image/build vm $(INSTANCE) $(ARGS)

.PHONY: update
update: ## build and update the box HOST=NAME with gok (INSTANCE=rpi; it tries the version before it keeps it)
	@go run ./image/build update $(or $(HOST),$(error say which box: make update HOST=NAME)) $(if $(INSTANCE),--instance $(INSTANCE)) $(ARGS)

.PHONY: release
release: ## make a release of all images, signed with KEY=FILE (of kdht keygen): bin/release/VERSION
	@go run ./image/build release --key $(or $(KEY),$(error say which key: make release KEY=FILE; kdht keygen makes one)) $(INSTANCE) $(ARGS)

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME each (default 1m)
	@.ci/fuzz $(or $(FUZZTIME),1m)

.PHONY: generate
generate: ## rebuild the BPF objects and their Go types (needs clang-19)
	@go generate ./...

.PHONY: lint
lint: ## golangci-lint for Go, clang-format for C
	@.ci/lint/run

.PHONY: clean
clean: ## remove what was built; keeps ./var
	@rm -rf bin
