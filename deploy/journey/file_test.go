package journey

import (
	"net/http"
	"strings"
	"testing"
)

func TestParse_refusesWhatCannotBeRun(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a name that nothing gives": "### A\n# expect 200\nGET {{shop}}/x/{{b.response.body.$.id}}\n",
		"no expectation":            "### A\nGET http://x/\n",
		"no request":                "### A\n# expect 200\n",
	} {
		if _, err := Parse("x", "# Intro\n\n"+text); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestParse_readsAJourney(t *testing.T) {
	t.Parallel()
	f, err := Parse("x", "# Intro.\n@shop = http://127.0.0.1:8080/api\n\n### First\n# @name a\n# expect 201\n# expect $.ok = true\nPOST {{shop}}/x\nA: b\n\n{}\n\n"+
		"### Second\n# expect 404\nGET {{shop}}/x/{{a.response.body.$.items[0].id}}\n")
	if err != nil {
		t.Fatal(err)
	}
	first, second := f.Requests[0], f.Requests[1]
	if f.Intro != "Intro." || first.URL != "{{base}}/api/x" || first.Body != "{}" || first.Status != 201 || first.Headers[0] != (Header{"A", "b"}) ||
		first.Expect[0] != (Value{"$.ok", "true"}) || second.Method != http.MethodGet || second.Body != "" {
		t.Errorf("got %+v", f)
	}
	if uses := f.Uses("a"); len(uses) != 1 || uses[0] != "$.items[0].id" {
		t.Errorf("it uses %v", uses)
	}
	if text := f.IntelliJ(); !strings.Contains(text, `client.global.set("a_items_0_id", response.body.items[0].id);`) || !strings.Contains(text, "GET {{base}}/api/x/{{a_items_0_id}}") {
		t.Errorf("got %s", text)
	}
}
