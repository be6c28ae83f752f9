# cairn: `make run` starts a one-box cluster, `make test` passes the tests. `make help` lists the rest.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
PACKAGES := ./cmd/... ./configs/... ./engine/... ./platform/...
FUZZTIME ?= 20s

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: run
run: build ## Build and start a one-box cluster in ./cairn-data (ARGS="…" adds flags)
	./bin/cairn start $(ARGS)

.PHONY: build
build: ## bin/cairn, static, for this machine
	$(BUILD) -o bin/cairn ./cmd/cairn

.PHONY: dist
dist: ## bin/cairn-linux-{amd64,arm64,armv7,riscv64}
	GOOS=linux GOARCH=amd64 $(BUILD) -o bin/cairn-linux-amd64 ./cmd/cairn
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/cairn-linux-arm64 ./cmd/cairn
	GOOS=linux GOARCH=arm GOARM=7 $(BUILD) -o bin/cairn-linux-armv7 ./cmd/cairn
	GOOS=linux GOARCH=riscv64 $(BUILD) -o bin/cairn-linux-riscv64 ./cmd/cairn

.PHONY: test
test: ## The tests: no root, no network beyond Go modules
	CGO_ENABLED=0 $(GO) test $(PACKAGES)

.PHONY: race
race: ## The tests under the race detector and with invariants on (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -tags invariants -timeout 20m $(PACKAGES)

.PHONY: check
check: ## Format, vet, lint, architecture, tests with -race and invariants
	packaging/check/lint
	$(MAKE) race

.PHONY: sim-long
sim-long: ## Whole boxes in virtual time: 1,000 seeds of 60 virtual seconds, on all processors (half an hour on two)
	packaging/check/sim 1000 60

.PHONY: fuzz-smoke
fuzz-smoke: ## Every fuzz target for FUZZTIME (default 20s)
	packaging/check/fuzz $(FUZZTIME)

.PHONY: conformance
conformance: build ## Real clients: kcat, franz-go, go-zookeeper, kazoo, Kafka's and ZooKeeper's Java tools (installs what it needs)
	packaging/conformance/run

.PHONY: bench
bench: build ## Figures beside a floor program and beside Apache ZooKeeper (needs Java), interleaved; prints ratios
	packaging/bench/run
	packaging/bench/run-peer
	packaging/bench/run-catchup
	packaging/bench/run-move

.PHONY: generate
generate: ## Everything that is generated from something else
	$(GO) generate $(PACKAGES)
