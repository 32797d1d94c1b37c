package local

import (
	"testing"
)

func TestParsePan(t *testing.T) {
	t.Parallel()
	const head = "\n(Spin Version 6.5.2 -- 6 December 2019)\n"
	for name, tt := range map[string]struct {
		report string
		want   checked
	}{
		"all is well": {
			report: "Depth=     243 States=    1e+06 Transitions= 1.13e+07 Memory=   177.060\n" + head + `
Full statespace search for:
	never claim         	+ (ends)
	assertion violations	+ (if within scope of claim)

State-vector 100 byte, depth reached 243, errors: 0
  1542507 states, stored (3.08501e+06 visited)
 21096373 states, matched
`,
			want: checked{states: 1542507, whole: true},
		},
		"a property is broken": {
			report: "pan:1: assertion violated  !((branch[0]==4)) (at depth 76)\npan: wrote twopc.pml.trail\n" + head + `
Warning: Search not completed
State-vector 92 byte, depth reached 84, errors: 1
     3781 states, stored
`,
			want: checked{states: 3781, errors: 1, violated: 1},
		},
		"it goes round for ever": {
			report: "pan:1: acceptance cycle (at depth 20)\npan: wrote twopc.pml.trail\n" + head + `
Warning: Search not completed
State-vector 100 byte, depth reached 84, errors: 1
       41 states, stored
`,
			want: checked{states: 41, errors: 1},
		},
		"not every depth was looked at": {
			report: "error: max search depth too small\n" + head + "State-vector 92 byte, depth reached 84, errors: 0\n 12 states, stored\n",
			want:   checked{states: 12},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePan(tt.report)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	for _, report := range []string{"", "pan: out of memory\n", head + "State-vector 92 byte, depth reached 84, errors: 0\n"} {
		if _, err := parsePan(report); err == nil {
			t.Errorf("a report without numbers is read: %q", report)
		}
	}
}
