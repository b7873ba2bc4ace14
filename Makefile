# Needs Go and make. Everything else is built from source or reported as absent.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10s

# The version goes in by -ldflags; asking git a second time fails in a checkout
# that belongs to another user.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# The race detector needs a C compiler that can link.
CC_WORKS = $(shell echo 'int main(void){return 0;}' | $$(go env CC) -x c - -o /dev/null 2>/dev/null && echo yes)

RACE     = $(if $(CC_WORKS),-race)

# The libvips that sharp ships: built for the web's types only, by LGPL-3.0. Its
# README.md has the licenses of all its parts.
VIPS_ARCH = $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x64)
VIPS_LIB  = libvips-cpp.so.8.18.7
VIPS_DIR  = bin/vips-1.3.4
VIPS_SUMS = b35548abaa7cde95868b5864ed52dd7d1888e8352894662a6e908dbb8cdd1086ca8e56dd47dcc716922263ac10b676e7e6349fbbdf84fcf482dbab6438d7abd9  img-sharp-libvips-dev-1.3.4.tgz\n\
189fff4925db9f04837acd36ba60779c324b15c433c3c6b5f15f1fca1aabead579d79b4e10c7489a38f18f502869f311cf9e85dcf1e07ed9e3d5010a494d7393  img-sharp-libvips-linux-x64-1.3.4.tgz\n\
6377605ffea513642141bf86c72d166717e0f4c126fc90636a66694b622494fef1210a0a378873026eca70c546b5a543b779de13d38a042eef01fa2703f2ebd4  img-sharp-libvips-linux-arm64-1.3.4.tgz\n
WORKER_SOURCES = $(wildcard proxy/transform/worker/*.[ch])
WORKER_CFLAGS  = -std=gnu11 -O2 -Wall -Wextra -Werror -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
	$(if $(filter debian,$(VIPS)),$(shell pkg-config --cflags vips),-isystem $(VIPS_DIR)/include -isystem $(VIPS_DIR)/include/glib-2.0 -isystem $(VIPS_DIR)/lib/glib-2.0/include)
WORKER_LIBS    = -pie -Wl,-z,relro,-z,now -lm \
	$(if $(filter debian,$(VIPS)),$(shell pkg-config --libs vips),bin/$(VIPS_LIB) -Wl,-rpath,'$$ORIGIN' -Wl,--allow-shlib-undefined)

.DEFAULT_GOAL := help
# How many random sequences test-long plays.
SEQUENCES ?= 20000
# Every CRASHESth write and call of provisioning is broken in test-long.
CRASHES   ?= 1
# How many actions the nodes of a fleet live through in test-long.
CHAOS     ?= 2000

.PHONY: help build tools worker demo test try-minio try-worker test-build test-packages test-program test-console test-long test-aws bench bench-hitratio soak lint fuzz check image image-worker clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

build: ## Build bin/ixmage
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ixmage .

tools: bin/versitygw bin/minio bin/golangci-lint ## Build the S3 servers for tests and the linter into bin/

# A program of its own, in C, on libvips: the only part that decodes pictures.
# Without VIPS=debian the library comes from npm and lies beside the program.
worker: $(if $(filter debian,$(VIPS)),,$(VIPS_DIR)) ## Build bin/ixmage-worker, which transforms pictures (VIPS=debian: on libvips-dev)
	@[ "$(CC_WORKS)" = yes ] || { echo '!!!!! NO C COMPILER WORKS: without bin/ixmage-worker no picture is transformed !!!!!'; exit 1; }
	$$(go env CC) $(WORKER_CFLAGS) $(filter %.c,$(WORKER_SOURCES)) -o bin/ixmage-worker.tmp $(WORKER_LIBS)
	@mv bin/ixmage-worker.tmp bin/ixmage-worker

bin/ixmage-worker: $(WORKER_SOURCES)
	@$(MAKE) --no-print-directory worker

# For the tests: what a taken-over worker would try, what libvips could still load, and
# the worker with sanitizers, which cannot run in the sandbox.
WORKER_TESTS = proxy/transform/worker/workertest/testdata
bin/ixmage-worker-probe: $(WORKER_SOURCES) $(WORKER_TESTS)/probe.c
	@$$(go env CC) -std=gnu11 -O1 -Wall $(WORKER_TESTS)/probe.c -o $@

bin/ixmage-worker-loaders: bin/ixmage-worker $(WORKER_TESTS)/loaders.c
	@$$(go env CC) $(WORKER_CFLAGS) $(WORKER_TESTS)/loaders.c $(filter-out %/worker.c %/sandbox.c,$(filter %.c,$(WORKER_SOURCES))) -o $@ $(WORKER_LIBS)

bin/ixmage-worker-asan: bin/ixmage-worker $(WORKER_TESTS)/unconfined.c
	@$$(go env CC) $(filter-out -D_FORTIFY_SOURCE=2,$(WORKER_CFLAGS)) -g -fsanitize=address,undefined -fno-sanitize-recover=all \
		$(filter-out %/sandbox.c,$(filter %.c,$(WORKER_SOURCES))) $(WORKER_TESTS)/unconfined.c -o $@ $(WORKER_LIBS)

# npm pack is only the download: the sum decides.
$(VIPS_DIR):
	@command -v npm >/dev/null || { echo '!!!!! NO npm, which downloads libvips: install it, or libvips-dev and make worker VIPS=debian !!!!!'; exit 1; }
	@rm -rf bin/vips.tmp && mkdir -p bin/vips.tmp && cd bin/vips.tmp && \
		npm pack --silent @img/sharp-libvips-dev@1.3.4 @img/sharp-libvips-linux-$(VIPS_ARCH)@1.3.4 && \
		for package in *.tgz; do \
			printf '$(VIPS_SUMS)' | grep -F "  $$package" | sha512sum --quiet -c && tar -xzf $$package --strip-components 1 || exit 1; \
		done && rm *.tgz
	@cp bin/vips.tmp/lib/$(VIPS_LIB) bin/ && cp bin/vips.tmp/README.md bin/ixmage-worker.licenses.md
	@mv bin/vips.tmp $@

# The tests do without the worker where it cannot be built.
try-worker:
	@$(MAKE) --no-print-directory bin/ixmage-worker bin/ixmage-worker-probe bin/ixmage-worker-loaders bin/ixmage-worker-asan || \
		echo '!!!!! ABSENT: ixmage-worker. What needs it is skipped !!!!!'

demo: build bin/versitygw try-worker ## Run ixmage on a local S3 with pictures (IMAGES=dir: your own)
	CGO_ENABLED=0 go build -trimpath -o bin/demo ./internal/demo
	@exec bin/demo

test: bin/versitygw try-minio try-worker ## Run the tests; the race detector is used where a C compiler works
	@.ci/packages --report cc systemd-analyze promtool prometheus nginx varnishd wrk aws curl ip chromium zsh fish mandoc node npm php python3 postgres pgbouncer haproxy
	@[ "$(CC_WORKS)" = yes ] || echo '!!!!! NO C COMPILER WORKS: the tests run WITHOUT the race detector !!!!!'
	@echo 'What takes long is left to make test-long.'
	@$(MAKE) --no-print-directory SHORT=-short test-packages test-program

# These packages start no goroutines, are tools and servers of the tests, or test what takes a
# database, which is five times as slow with the race detector. make test runs them without it;
# make test-long runs them with it.
UNRACED = ./alias/accounts ./alias/admin/... ./alias/cli/... ./alias/client ./alias/datadir ./alias/fleet ./alias/policy \
	./alias/provision ./alias/scope ./alias/seal ./alias/sqlstore ./docs/... ./e2e/cachetests ./internal/awscheck \
	./internal/awserr ./internal/awstest/... ./internal/bench/... ./internal/demo ./internal/grafana ./proxy/transform/worker/...

# make lint runs go vet, so go test need not.
GO_TEST = go test -vet=off -shuffle=on -timeout 40m $(SHORT)

# The program, linked once for all tests that start it.
test-packages test-program test-console test-long: export IXMAGE_BUILT = $(CURDIR)/bin/ixmage-tests
test-build:
	@CGO_ENABLED=0 go build -ldflags "-s -w" -o bin/ixmage-tests .

# Every package but e2e. internal/bench/plot, internal/plancheck and deploy are modules of
# their own.
test-packages: test-build try-worker
	@CGO_ENABLED=$(if $(RACE),1,0) $(GO_TEST) $(RACE) $$(go list ./... | grep -vxF "$$(go list ./e2e $(UNRACED))")
	@CGO_ENABLED=0 $(GO_TEST) $$(go list $(UNRACED))
	@for module in internal/bench/plot internal/plancheck deploy; do go -C $$module test -vet=off ./... || exit 1; done

# The tests in e2e start the program and look at it from outside. They are built
# WITHOUT the race detector, which would take five times as long in their clients
# and servers. make test-long has those of e2e/race_test.go run the PROGRAM with it.
test-program: test-build bin/versitygw try-minio try-worker
	@CGO_ENABLED=0 $(GO_TEST) ./e2e
	@$(MAKE) --no-print-directory test-console

# The console in Chromium; a module of its own, as above.
test-console: test-build bin/versitygw
	@$(MAKE) --no-print-directory bin/axe.min.js || echo '!!!!! ABSENT: axe-core. What needs it is skipped !!!!!'
	@CGO_ENABLED=0 go -C e2e/console test -vet=off -shuffle=on -timeout 20m .

test-long: test-build bin/versitygw try-minio try-worker ## Run what takes long: all crashes of provisioning, 20,000 sequences, what happens at once in e2e with the race detector, 200 kills, 2,000 actions of a fleet, 10,000 broken pictures
	@IXMAGE_SLOW_READERS=all IXMAGE_FAULTS=all IXMAGE_RENEWALS=all $(if $(RACE),IXMAGE_RACE=yes) CGO_ENABLED=0 $(GO_TEST) -parallel 4 ./e2e
	CGO_ENABLED=$(if $(RACE),1,0) $(GO_TEST) $(RACE) $(UNRACED) ./alias/session ./cache
	IXMAGE_CRASHES=$(CRASHES) IXMAGE_SEQUENCES=$(SEQUENCES) IXMAGE_WALK=all go test -timeout 90m -run '^(TestCrashMatrix|TestRandomSequences|TestUpgrade|TestWalk)$$' ./alias/provision
	IXMAGE_INTERLEAVINGS=all go test -timeout 40m -run '^TestSimulated' ./alias/fleet
	IXMAGE_DISK_SEQUENCES=3000 go test -timeout 40m -run '^(TestProperty|TestCrash)$$' ./cache/disk
	IXMAGE_ANSWERS=100000 CGO_ENABLED=0 go test -timeout 40m -run '^TestSurplusAnswers$$' ./e2e
	IXMAGE_MANY=100000 CGO_ENABLED=0 go test -timeout 40m -run '^TestFleetMany$$' ./e2e
	IXMAGE_CHAOS=$(CHAOS) CGO_ENABLED=0 go test -timeout 60m -run '^TestFleetChaos$$' ./e2e
	IXMAGE_MUTATIONS=all go test -timeout 40m -run '^Test(Mutated|Hostile)$$' ./proxy/transform/worker/workertest
	IXMAGE_MUTANTS=10000 CGO_ENABLED=0 go test -timeout 60m -run '^TestTransformMutants$$' ./e2e
	IXMAGE_JOBS=10000 go test -timeout 40m -run '^TestStress$$' ./proxy/transform
	IXMAGE_KILLS=all CGO_ENABLED=0 go test -timeout 40m -run '^TestDiskKilled$$' ./e2e

# Journals and reports are in aws-test/, out of git and of make clean: a journal is how
# the leftovers of a killed run are found.
test-aws: build ## Try on a throw-away AWS account what is assumed of AWS; asks first (CLEAN=1: delete what a killed run left)
	@CGO_ENABLED=0 go build -trimpath -o bin/awscheck ./internal/awscheck
	@exec bin/awscheck $(if $(CLEAN),-clean)

bench: build bin/versitygw try-worker ## Compare with nginx, Varnish, a bare handler and libvips (needs nginx, varnishd, wrk)
	@.ci/packages nginx varnishd wrk
	go run ./internal/bench -plots bin/plots -o bin/bench.md
	@$(MAKE) --no-print-directory bench-hitratio

# A module of its own: the other caches stay out of the product's go.mod.
bench-hitratio: ## Compare the hit ratio of the memory tier with LRU, 2Q, ARC and otter
	go -C internal/bench/hitratio run .

# Length and disk tier of the soak.
SOAK      ?= 10m
SOAK_DISK ?= 2GiB

soak: build ## Load ixmage for SOAK (10m) without and with the disk tier, fail on a leak
	go run ./internal/bench -part soak -soak $(SOAK)
	go run ./internal/bench -part soak -soak $(SOAK) -cache-disk $(SOAK_DISK)

lint: bin/golangci-lint ## Check style, import rules, formatting and go.mod
	bin/golangci-lint run
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not gofmt-ed: $$files"; exit 1; }
	go vet ./...
	go -C internal/bench/hitratio vet .
	go -C internal/bench/hitratio mod tidy -diff
	go mod tidy -diff
	@for module in internal/bench/plot internal/plancheck deploy e2e/console; do \
		(cd $$module && $(CURDIR)/bin/golangci-lint run && go vet ./... && go mod tidy -diff) || exit 1; \
	done

fuzz: ## Run every fuzz test for FUZZTIME (10s)
	@go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
		for target in $$(cat "$$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p'); do \
			echo "== $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$pkg" </dev/null || exit 1; \
		done; \
	done
	go -C internal/plancheck test -run '^$$' -fuzz . -fuzztime $(FUZZTIME) -fuzzminimizetime 1x . </dev/null

check: ## Do what CI does
	bash .ci/run

image: ## Build the container image ixmage
	docker build --build-arg VERSION=$(VERSION) -t ixmage .

image-worker: ## Build the container image ixmage:worker, which can transform pictures
	docker build --build-arg VERSION=$(VERSION) --target worker -t ixmage:worker .

clean: ## Remove what the other targets built
	rm -rf bin

# Rebuilt only when a pin changes: the linter takes minutes.
bin/versitygw: .ci/tools/go.sum
	CGO_ENABLED=0 go -C .ci/tools build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" github.com/versity/versitygw/cmd/versitygw
	@touch $@

# A module of its own, because its license keeps it out of ours: it is a program beside
# the tests, and nothing of it is linked.
bin/minio: .ci/tools/minio/go.sum
	CGO_ENABLED=0 go -C .ci/tools/minio build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" github.com/minio/minio
	@touch $@

# The tests do without MinIO where it cannot be built.
try-minio:
	@$(MAKE) --no-print-directory bin/minio || echo '!!!!! ABSENT: minio. What needs it is skipped !!!!!'

bin/golangci-lint: .ci/tools/go.sum
	CGO_ENABLED=0 go -C .ci/tools build -trimpath -ldflags "-s -w" -o "$(CURDIR)/$@" github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

# Finds what is hard to use with a screen reader; only the tests of the console run it.
AXE     = axe-core-4.14.1.tgz
AXE_SUM = 1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

bin/axe.min.js:
	@mkdir -p bin && cd bin && npm pack --silent $(subst core-,core@,$(AXE:.tgz=)) && \
		echo "$(AXE_SUM)  $(AXE)" | sha512sum --quiet -c && tar -xzOf $(AXE) package/axe.min.js >axe.tmp && mv axe.tmp axe.min.js && rm $(AXE)
