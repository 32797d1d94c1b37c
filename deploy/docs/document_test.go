package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse_findsCommands(t *testing.T) {
	t.Parallel()
	d := parse("README.md", "Run `make demo`, see [this](a.md) and `money.Money`.\n```sh\n# first\nmake up   # it's now\npost() { curl \\\n  -X POST; }\n```\n"+
		"```go\nmake()\n```\n<!-- not run: it needs a moon -->\n```sh\nfly\n```\n")
	want := []script{
		{commands: []string{"make demo"}},
		{commands: []string{"make up   # it's now", "post() { curl \\\n-X POST; }"}},
		{commands: []string{"fly"}, notRun: "it needs a moon"},
	}
	if diff := cmp.Diff(want, d.scripts, cmp.AllowUnexported(script{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(d.deadLinks(t.TempDir())) != 1 {
		t.Errorf("the dead link of %v is not found", d.links)
	}
}

func TestReason_saysWhatIsNotRun(t *testing.T) {
	t.Parallel()
	for command, run := range map[string]bool{
		"make": true, "make demo    # brings up everything": true, `make up INSTANCES="product=3"`: true, "make status": true,
		"make test": false, "make fuzz": false, "make down": false, "kubectl get pods": false, "docker compose up": false,
		".souk/bin/coordinator tx show GID": false, ".souk/bin/souk kill product-2": true, "curl -sS http://127.0.0.1:8080/": true,
	} {
		if got := reason(command) == ""; got != run {
			t.Errorf("%s: run is %v", command, got)
		}
	}
}

func TestLook_findsWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"make no-such-target", "kubectl apply -k deploy/nowhere", "deploy/none.sh | kubectl apply -f -"} {
		if look(t.Context(), t.TempDir(), command) == nil {
			t.Errorf("nothing is wrong with %q", command)
		}
	}
}
