# Needs Go and make. Everything else is built from source or reported as absent.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s

# The version goes in by -ldflags; asking git a second time fails in a checkout
# that belongs to another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# The race detector needs a C compiler that can link.
CC_WORKS = $(shell echo 'int main(void){return 0;}' | $$(go env CC) -x c - -o /dev/null 2>/dev/null && echo yes)

.DEFAULT_GOAL := help
.PHONY: help build tools demo test crashes bench lint fuzz check image clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

build: ## Build bin/ixmage
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ixmage .

tools: bin/versitygw bin/golangci-lint ## Build the S3 server for tests and the linter into bin/

demo: build bin/versitygw ## Run ixmage on a local S3 with pictures (IMAGES=dir: your own)
	CGO_ENABLED=0 go build -trimpath -o bin/demo ./internal/demo
	@exec bin/demo

test: bin/versitygw ## Run all tests, with the race detector where a C compiler works
	@.ci/packages --report cc promtool nginx varnishd wrk aws chromium
	@if [ "$(CC_WORKS)" = yes ]; then \
		CGO_ENABLED=1 go test -race -shuffle=on -timeout 40m ./...; \
	else \
		echo '!!!!! NO C COMPILER WORKS: the tests run WITHOUT the race detector !!!!!'; \
		CGO_ENABLED=0 go test -shuffle=on -timeout 40m ./...; \
	fi

crashes: ## Break provisioning at every write and call, and 10,000 times at random (half an hour)
	IXMAGE_CRASHES=all IXMAGE_SEQUENCES=10000 go test -timeout 90m -run '^(TestCrashMatrix|TestRandomSequences)$$' ./alias/provision

bench: build bin/versitygw ## Compare with nginx, Varnish and a bare handler (needs nginx, varnishd, wrk)
	@.ci/packages nginx varnishd wrk
	go run ./internal/bench

lint: bin/golangci-lint ## Check style, import rules, formatting and go.mod
	bin/golangci-lint run
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not gofmt-ed: $$files"; exit 1; }
	go vet ./...
	go mod tidy -diff

fuzz: ## Run every fuzz test for FUZZTIME (10s)
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		for target in $$(cat "$$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p'); do \
			echo "== $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$pkg" </dev/null || exit 1; \
		done; \
	done

check: ## Do what CI does
	bash .ci/run

image: ## Build the container image ixmage
	docker build --build-arg VERSION=$(VERSION) -t ixmage .

clean: ## Remove what the other targets built
	rm -rf bin

# Rebuilt only when a pin changes: the linter takes minutes.
bin/versitygw: .ci/tools/go.sum
	CGO_ENABLED=0 go -C .ci/tools build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" github.com/versity/versitygw/cmd/versitygw
	@touch $@

bin/golangci-lint: .ci/tools/go.sum
	CGO_ENABLED=0 go -C .ci/tools build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
