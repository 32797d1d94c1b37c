# Every command a person needs. `make` alone lists them.

SOUK    := .souk/bin/souk
MODULES  = $(shell go list -m -f '{{.Dir}}')

.DEFAULT_GOAL := help
.PHONY: help abuse demo up down status test e2e e2e-compose chaos chaos-mutants bench-2pc bench-mesh chaos-mesh model k8s-check k8s-smoke ops-check lint fmt build tidy verify tools souk monitoring-check load

help: ## list these commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: souk ## start the whole shop and buy something in it
	@$(SOUK) demo

up: souk ## start the whole shop; INSTANCES="product=2,payment=2" says how many of what
	@$(SOUK) up

down: souk ## stop everything and remove its data
	@$(SOUK) down

status: souk ## show what runs, where, and its memory
	@$(SOUK) status

test: souk ## run every test, on a real PostgreSQL and a real Consul
	@$(SOUK) test

e2e: souk ## the end-to-end tests alone: journeys, races and faults on a shop of their own
	@$(SOUK) test -name e2e -packages ./deploy/e2e/... -- -timeout=20m

chaos: ## break a shop for CHAOS_SECONDS (60) as CHAOS_SEED says, and count its money and goods
	@go run ./deploy/chaos/cmd/chaos -for $(or $(CHAOS_SECONDS),60)s $(if $(CHAOS_SEED),-seed $(CHAOS_SEED))

chaos-mutants: ## plant three bugs in two-phase commit, and see the same campaign catch each
	@go run ./deploy/chaos/cmd/chaos -mutants -for $(or $(CHAOS_SECONDS),30)s $(if $(CHAOS_SEED),-seed $(CHAOS_SEED))

e2e-compose: ## try docker-compose.yml for real: payment is killed in the middle of purchases (needs Docker, some minutes)
	@go test -count=1 -v -timeout=30m ./deploy/e2e/compose -compose

bench-2pc: ## measure two-phase commit against one local transaction (about 3 minutes)
	@go run ./deploy/bench/twopc

bench-mesh: ## measure calls by name, the balancer and the gateway, beside nginx and Caddy (about 6 minutes)
	@go run ./deploy/bench/mesh

chaos-mesh: ## break what a call between services depends on, fault by fault (about 5 minutes); ROWS=kill,slow picks some
	@go run ./deploy/chaosmesh -rows "$(ROWS)"

model: souk ## check the model of two-phase commit with spin, and that the check can fail
	@$(SOUK) model

k8s-check: ## check the Kubernetes manifests against the API, kube-score and the rules of the house, and that the check can fail
	@mkdir -p .souk/bin && cd deploy/k8s/check && export GOWORK=off && go test -count=1 ./... && go build -trimpath -o ../../../.souk/bin/k8s-check .
	@.souk/bin/k8s-check $(wildcard deploy/k8s/overlays/*)

abuse: souk ## attack a shop of its own in every way that is listed, one line each; it must refuse all of them (about 3 minutes)
	@go run ./deploy/abuse

monitoring-check: ## check alert rules and every dashboard panel on a real Prometheus watching a shop with faults (about a minute)
	@go run ./deploy/monitoring/check

openapi: ## write the OpenAPI documents as the code has them, and what is made of them
	@go run ./deploy/openapi && go run ./deploy/postman -write

postman: ## run the Postman collection against the shop that is up, or one of its own
	@go run ./deploy/postman

fuzz: ## ask every operation all sorts of things for FUZZ_SECONDS (150), and hold the answers to the OpenAPI document
	@go run ./deploy/fuzz

docs-check: ## run what the documents tell people to run, in a copy (some minutes)
	@go run ./deploy/docs

load: ## many customers for LOAD_SECONDS (60), then ten times too many; money and goods are counted afterwards (about 4 minutes)
	@go run ./deploy/load

ops-check: ## look at the live page of operations in Chromium, with faults (about 3 minutes)
	@go run ./deploy/e2e/browser

k8s-smoke: ## try the dev overlay on the cluster of KUBECONFIG: buy, delete pods, roll everything under load
	@go run ./deploy/k8s/smoke

lint: souk ## check style and the rules of the house
	@$(SOUK) lint

fmt: souk ## format the code
	@$(SOUK) fmt

build: ## build the services into .souk/bin
	@mkdir -p .souk/bin && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -tags nomsgpack -o .souk/bin/ $(addprefix ./,$(wildcard services/*/cmd/*))

tidy: ## bring every go.mod and go.sum in order
	@go work sync && for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done

verify: ## check that every module builds on its own and is tidy
	@for m in $(MODULES); do echo "verify: $$m"; (cd $$m && export GOWORK=off && go mod tidy -diff && go build ./... && go vet ./...) || exit 1; done
	@echo "verify: modules=$(words $(MODULES)) untidy=0"

tools: souk ## get PostgreSQL, Consul (about 7 minutes to build, once) and the linter
	@$(SOUK) tools

souk:
	@mkdir -p .souk/bin && go build -trimpath -buildvcs=false -o $(SOUK) ./deploy/local/cmd/souk
