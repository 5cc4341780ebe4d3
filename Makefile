# The commands of the project. CI calls the same ones: `.ci/run` is `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo shell test pictures test-clients test-upgrades fuzz bench lint crds images release release-images load load-exec load-wan binaries archives release-archives quickstart ready root prerequisites

export VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
TRIPLE := $(shell rustc --version --verbose | sed -n 's/^host: //p')
COMPONENTS := gateway controller csi
# Images of which profile, and where: those of the demo and the tests, unless `release-images` says otherwise.
BINARIES := target/$(TRIPLE)/debug
FOLDER := target/images
RELEASED := target/release-images
ARCHIVES = $(COMPONENTS:%=$(FOLDER)/connectors-%.tar)
# What is shipped is for both of these, and where it is.
TRIPLES := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu
SHIPPED = target/shipped/$(VERSION)
# Without --package, so that dependencies are compiled with the features that the tests use, once.
BUILD := cargo build --locked $(COMPONENTS:%=--bin connectors-%) --bin testenv --bin sbom
TESTENV := target/$(TRIPLE)/debug/testenv
# Two clusters, ours with the images; both end with the command.
CLUSTERS = $(TESTENV) run --home node --target node $(ARCHIVES:%=--image %) --
CRDGEN := cargo run --quiet --locked --bin crdgen --
AUTHORITIES := /etc/ssl/certs/ca-certificates.crt

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: root images quickstart ## the quick start, step by step, on a cluster of its own

shell: root images ## a shell on a cluster with Connectors installed, gone when the shell ends
	@$(CLUSTERS) config/samples/shell.sh

load: root release-archives ## the load test with k6, against a cluster of its own
	@K6=$$($(TESTENV) tools k6) && K6=$$K6 $(CLUSTERS) load-tests/quickstart.sh

load-exec: root release-archives ## 1 GiB through kubectl exec, directly and through the gateway, on a cluster of its own
	timeout 1200 $(CLUSTERS) load-tests/exec.sh

load-wan: root release-archives ## what kubectl takes to targets far away, directly and through the gateway; draws docs/pictures/wan.svg
	PROGRAMS=bench release/compile.sh $(TRIPLE)
	BENCH=target/$(TRIPLE)/release/bench IMAGES=$(FOLDER) timeout 1200 $(CLUSTERS) load-tests/wan.sh

# The images first: lint then finds macros and build scripts compiled. A test that waits leaves the machine to others.
test: ALSO = need prometheus promtool --version; need gettext-base envsubst --version;
test: images lint ## everything that CI checks: lint, unit tests, a real API server, a real node
	@.ci/test

pictures: ALSO = need prometheus prometheus --version;
pictures: binaries ## docs/pictures: the dashboards, drawn over a run with load and trouble (minutes)
	cargo run --locked --bin pictures

# Without --package for the same reason as above.
test-clients: ALSO = need python3-pip python3 -m pip --version; need npm npm --version; need maven mvn --version; need openjdk-17-jdk-headless javac --version;
test-clients: root images ## nine clients over both kubeconfigs on a real node; writes docs/clients.md (minutes)
	timeout 2700 cargo test --locked --test clients

test-upgrades: prerequisites ## 10,000 upgrades over WebSocket and as many over SPDY: none may be lost (minutes)
	CONNECTORS_UPGRADES=10000 timeout 1800 cargo test --locked --test stream -- no_upgrade_is_lost --nocapture

# Only flags of the stable compiler. In a folder of its own, since all that is linked is counted too.
FUZZ := -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
	-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1 --cfg fuzzing
fuzz: prerequisites ## the parsers under libFuzzer, SECONDS_EACH (60) each of TARGETS (all); the first build takes minutes
	RUSTFLAGS='$(FUZZ)' cargo build --locked --package connectors-fuzz --features libfuzzer --target-dir target/fuzz
	fuzz/run.sh target/fuzz/$(TRIPLE)/debug/connectors-fuzz $(TARGETS)

# For example: make bench BENCH='--only h1,h32 --rounds 3'. load-tests/README.md lists what there is.
bench: ALSO = need haproxy haproxy -v;
bench: prerequisites ## what the gateway costs beside HAProxy and bare servers (the first release build takes minutes)
	PROGRAMS='connectors-gateway bench' release/compile.sh $(TRIPLE)
	timeout 1800 target/$(TRIPLE)/release/bench run target/$(TRIPLE)/release/connectors-gateway $(BENCH)

lint: prerequisites ## format, clippy, what is generated from the types, dependencies (deny.toml)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(CRDGEN) --check
	cargo test --quiet --locked --test dependencies

crds: prerequisites ## write config/crd, the reference pages and the chart's rules for settings from the types
	$(CRDGEN)

images: binaries ## image archives in target/images for the demo and the tests: quick to build, not to ship
	@$(MAKE) --no-print-directory --silent archives

# One cargo for images and testenv: what both are made of is compiled once.
binaries: prerequisites
	@echo 'compile gateway, controller, driver and testenv (about 6 minutes the first time, seconds after that)'
	@$(BUILD)

release-images: root release-archives quickstart ## optimized image archives in target/release-images, for this machine alone, tried by the quick start

release-archives: binaries
	@echo 'compile gateway, controller and driver for release (about 15 minutes the first time)'
	release/compile.sh $(TRIPLE)
	@$(MAKE) --no-print-directory --silent archives BINARIES=target/$(TRIPLE)/release FOLDER=$(RELEASED)

# What is measured or shipped.
release-images load load-exec load-wan: FOLDER := $(RELEASED)

# For example: make release VERSION=0.1.0 REGISTRY=registry.example/connectors. CONTRIBUTING.md says what comes before and after.
release: ALSO = need gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc --version; need libssl-dev:arm64 test -e /usr/lib/aarch64-linux-gnu/libssl.a; \
	need libc6-dev:arm64 test -e /usr/lib/aarch64-linux-gnu/libc.a; need qemu-user-static qemu-aarch64-static --version;
release: root ready prerequisites ## what is shipped, in target/shipped/VERSION: images for amd64 and arm64, chart, manifests, checksums; tried
	$(BUILD)
	@echo 'compile gateway, controller and driver for release, twice (about 30 minutes the first time)'
	release/compile.sh $(TRIPLES)
	HELM=$$($(TESTENV) tools helm) KUBECTL=$$($(TESTENV) tools kubectl) release/pack.sh $(SHIPPED) $(foreach target,$(TRIPLES),$(target)=target/$(target)/release)
	CONNECTORS_SHIPPED=$(CURDIR)/$(SHIPPED) timeout 900 cargo test --locked --test released
	@$(MAKE) --no-print-directory quickstart ARCHIVES='$(COMPONENTS:%=$(SHIPPED)/connectors-%-$(VERSION).tar)'

# First, before anything is installed or compiled.
ready:
	@release/ready.sh $(TRIPLES)

quickstart:
	@$(CLUSTERS) config/samples/quickstart.sh

archives: $(ARCHIVES)

$(FOLDER)/connectors-%.tar: $(BINARIES)/connectors-% Containerfile $(AUTHORITIES) release/image.sh release/common.sh
	@echo 'image connectors-$*:$(VERSION) -> $@'
	mkdir -p $(FOLDER) && rm -f $@
	release/image.sh $* $(TRIPLE) $< docker-archive:$@:connectors-$*:$(VERSION)

root:
	@[ "$$(uname)" = Linux ] && [ "$$(id -u)" = 0 ] || { echo 'A cluster of its own needs Linux and root. On an existing one: make images, give them to its nodes,' \
	'and run KUBECONFIG=<its kubeconfig> TARGET_KUBECONFIG=<that of the cluster to reach> config/samples/quickstart.sh'; exit 1; }

prerequisites:
	@missing=; need() { "$${@:2}" >/dev/null 2>&1 || missing+=" $$1"; }; \
	need gcc cc --version; need g++ c++ --version; need cmake cmake --version; need pkg-config pkg-config --version; \
	need libssl-dev test -e /usr/lib/$$(cc -print-multiarch)/libssl.a; need curl curl --version; need gnutls-bin gnutls-serv --version; need procps ps --version; \
	need buildah buildah --version; need git git --version; need binutils $$(cc -print-multiarch)-strip --version; need dpkg dpkg-query --version; need ca-certificates test -s $(AUTHORITIES); $(ALSO) \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "install these first (Debian calls them):$$missing"; exit 1; fi; \
	echo "installing$$missing"; [[ "$$missing" != *:arm64* ]] || dpkg --add-architecture arm64; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null
