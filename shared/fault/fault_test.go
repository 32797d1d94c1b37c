package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"souk/shared/fault"

	"github.com/google/go-cmp/cmp"
)

func TestProblem_comesBackAsTheSameFault(t *testing.T) {
	t.Parallel()
	sent := fault.New(fault.Conflict, "out_of_stock", "only %d left", 3).
		With(fault.Field{Pointer: "body.lines[0].quantity", Detail: "more than is on hand"}).
		Because(errors.New("secret"))

	body, err := json.Marshal(fault.Of(fmt.Errorf("reserve: %w", sent)).Problem())
	if err != nil {
		t.Fatal(err)
	}
	got := fault.OfResponse(409, body)

	if got.Kind != fault.Conflict || got.Code != "out_of_stock" || got.Message != "only 3 left" {
		t.Errorf("got %+v, want the fault that was sent", got)
	}
	if diff := cmp.Diff(sent.Fields, got.Fields); diff != "" {
		t.Errorf("fields differ (-sent +got):\n%s", diff)
	}
	if errors.Unwrap(got) != nil {
		t.Error("the cause crossed the wire")
	}
}

func TestOf_anErrorWithoutAKindIsInternalAndHidden(t *testing.T) {
	t.Parallel()
	p := fault.Of(errors.New("pq: password=hunter2")).Problem()
	if p.Status != 500 || p.Detail != "internal error" {
		t.Errorf("got %d %q, want 500 %q", p.Status, p.Detail, "internal error")
	}
	if fault.Of(nil) != nil {
		t.Error("Of(nil) is a fault")
	}
}

func TestOfStatus_isTheInverseOfStatus(t *testing.T) {
	t.Parallel()
	for _, k := range []fault.Kind{
		fault.Invalid, fault.Malformed, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Method, fault.Conflict,
		fault.Precondition, fault.TooLarge, fault.Media, fault.Exhausted, fault.Internal, fault.Upstream, fault.Unavailable, fault.Deadline,
	} {
		if got := fault.OfStatus(k.Status()); got != k {
			t.Errorf("OfStatus(%d) = %s, want %s", k.Status(), got, k)
		}
	}
}

func TestOfResponse_aBodyThatIsNoProblem(t *testing.T) {
	t.Parallel()
	if got := fault.OfResponse(418, []byte("<html>")); got.Kind != fault.Invalid {
		t.Errorf("418 is %s, want invalid", got.Kind)
	}
	if got := fault.OfResponse(599, nil); got.Kind != fault.Internal {
		t.Errorf("599 is %s, want internal", got.Kind)
	}
}
