# Every command a person needs. `make` alone lists them.

SOUK    := .souk/bin/souk
MODULES  = $(shell go list -m -f '{{.Dir}}')

.DEFAULT_GOAL := help
.PHONY: help demo up down status test e2e bench-2pc bench-mesh model lint fmt build tidy verify tools souk

help: ## list these commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

bench-2pc: ## measure two-phase commit against one local transaction (about 3 minutes)
	@go run ./deploy/bench/twopc

bench-mesh: ## measure calls by name, the balancer and the gateway, beside nginx and Caddy (about 6 minutes)
	@go run ./deploy/bench/mesh

model: souk ## check the model of two-phase commit with spin, and that the check can fail
	@$(SOUK) model

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
