package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../../.."

func TestCheck_whatIsInTheRepositoryPasses(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if !check(&out, root, []string{"../overlays/dev", "../overlays/prod"}) {
		t.Error(out.String())
	}
	if !strings.Contains(out.String(), "k8s-check: overlays=2 objects=") || !strings.HasSuffix(out.String(), " errors=0 critical=0\n") {
		t.Errorf("closing line of\n%s", out.String())
	}
}

// Each overlay here breaks one thing, and is refused for it.
func TestCheck_findsWhatIsBroken(t *testing.T) {
	t.Parallel()
	container := "/spec/template/spec/containers/0"
	for name, c := range map[string]struct{ target, patch, want string }{
		"a field that does not exist": {
			"kind: Deployment, name: order",
			`[{"op": "add", "path": "` + container + `/readynessProbe", "value": {"httpGet": {"path": "/readyz", "port": "admin"}}}]`,
			`Deployment order: strict decoding error: unknown field "spec.template.spec.containers[0].readynessProbe"`,
		},
		"a value of the wrong type": {
			"kind: Deployment, name: order",
			`[{"op": "replace", "path": "/spec/minReadySeconds", "value": "soon"}]`,
			"Deployment order: ",
		},
		"a version of the API that is gone": {
			"kind: HorizontalPodAutoscaler, name: order",
			`[{"op": "replace", "path": "/apiVersion", "value": "autoscaling/v2beta2"}]`,
			"HorizontalPodAutoscaler order: autoscaling/v2beta2 is on its way out, or gone: want autoscaling/v2",
		},
		"a container that may become root": {
			"kind: Deployment, name: order",
			`[{"op": "remove", "path": "` + container + `/securityContext/allowPrivilegeEscalation"}]`,
			"order is not restricted: allowPrivilegeEscalation != false",
		},
		"a token for the cluster's API": {
			"kind: Deployment, name: order",
			`[{"op": "replace", "path": "/spec/template/spec/automountServiceAccountToken", "value": true}]`,
			"order: want a service account of its own whose token is not mounted",
		},
		"a call that is not let through": {
			"kind: NetworkPolicy, name: product",
			`[{"op": "remove", "path": "/spec/ingress"}]`,
			`order calls product, which the network policies forbid ("only out")`,
		},
		"a call that nobody makes": {
			"kind: NetworkPolicy, name: product",
			`[{"op": "replace", "path": "/spec/egress/0/to/0", "value": {"podSelector": {}}}]`,
			"the network policies let product call payment (only out), which it never does",
		},
		"a drain cut short": {
			"kind: Deployment, name: order",
			`[{"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 20}]`,
			"order: the grace period does not cover",
		},
		"no limit of memory": {
			"kind: Deployment, name: order",
			`[{"op": "remove", "path": "` + container + `/resources/limits"}]`,
			"critical: Deployment order: Container Resources",
		},
		"a shop that does not know its address": {
			"kind: Deployment, name: user",
			`[{"op": "remove", "path": "` + container + `/env/0"}]`,
			`user: PUBLIC_URL is "", want where browsers find the shop`,
		},
		"both fields of a disruption budget": {
			"kind: PodDisruptionBudget, name: order",
			`[{"op": "add", "path": "/spec/minAvailable", "value": 1}]`,
			"PodDisruptionBudget order: want exactly one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := broken(t, "patches:\n- target: {"+c.target+"}\n  patch: '"+c.patch+"'\n")
			if !strings.Contains(out, c.want) {
				t.Errorf("want %q in\n%s", c.want, out)
			}
		})
	}
}

// What the services say they call, and what the table lets them, are the same.
func TestSameCalls(t *testing.T) {
	t.Parallel()
	code, err := callsInCode(root)
	if err != nil {
		t.Fatal(err)
	}
	table, err := callsInTable(root)
	if err != nil {
		t.Fatal(err)
	}
	if got := sameCalls(code, table); len(got) != 0 {
		t.Error(got)
	}
	code[edge{"product", "payment"}] = true
	delete(code, edge{"order", "product"})
	if got := sameCalls(code, table); len(got) != 2 {
		t.Errorf("got %v, want both differences", got)
	}
}

func TestCheck_refusesASecretThatIsWrittenDown(t *testing.T) {
	t.Parallel()
	if out := broken(t, "secretGenerator: [{name: x, literals: [a=b]}]\n"); !strings.Contains(out, "is written down") {
		t.Error(out)
	}
}

func TestCheck_nothingToCheckIsAFailure(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if check(&out, root, nil) {
		t.Error(out.String())
	}
}

// broken gives what is said of an overlay of dev with these further lines; it must be refused.
func broken(t *testing.T, lines string) string {
	t.Helper()
	dir := t.TempDir()
	dev, err := filepath.Abs("../overlays/dev")
	if err != nil {
		t.Fatal(err)
	}
	if dev, err = filepath.Rel(dir, dev); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: ["+dev+"]\n"+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if check(&out, root, []string{dir}) {
		t.Errorf("passed:\n%s", out.String())
	}
	return out.String()
}
