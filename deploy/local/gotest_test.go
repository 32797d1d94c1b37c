package local

import (
	"strings"
	"testing"
)

func TestTestReport_countsLeavesAndShowsOnlyFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		events                   string
		packages, passed, failed int
		shown, hidden            []string
	}{
		"a test with subtests counts as its subtests": {
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/one"}
{"Action":"output","Package":"p","Test":"A/one","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"A/one"}
{"Action":"run","Package":"p","Test":"A/two"}
{"Action":"output","Package":"p","Test":"A/two","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"A/two"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p","Elapsed":1}`,
			packages: 1, passed: 1, failed: 1,
			shown: []string{"loud", "FAIL p A/two", "FAIL p  1.0s  1 of 2 tests"}, hidden: []string{"quiet"},
		},
		"a test that fails after its subtests passed is a failure of its own": {
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/one"}
{"Action":"pass","Package":"p","Test":"A/one"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`,
			packages: 1, passed: 1, failed: 1,
		},
		"a package that does not build fails once and says why": {
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL p [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			packages: 1, failed: 1, shown: []string{"undefined: x"},
		},
		"a panic shows the test that never ended": {
			events: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}`,
			packages: 1, failed: 1, shown: []string{"panic: oh", "unfinished: p A"},
		},
		"a package without tests and a skipped test count for nothing": {
			events: `{"Action":"skip","Package":"empty"}
{"Action":"run","Package":"p","Test":"A"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`,
			packages: 1,
		},
		"what is not an event is passed on": {
			events: "go: something is wrong", shown: []string{"go: something is wrong"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			r := testReport{log: &log, tests: map[testKey]*testOutput{}}
			if err := r.read(strings.NewReader(tt.events)); err != nil {
				t.Fatal(err)
			}
			got, want := [3]int{r.packages, r.passed, r.failed}, [3]int{tt.packages, tt.passed, tt.failed}
			if got != want {
				t.Errorf("got packages, passed, failed = %v, want %v\n%s", got, want, log.String())
			}
			for _, text := range tt.shown {
				if !strings.Contains(log.String(), text) {
					t.Errorf("%q is not shown in:\n%s", text, log.String())
				}
			}
			for _, text := range tt.hidden {
				if strings.Contains(log.String(), text) {
					t.Errorf("%q is shown in:\n%s", text, log.String())
				}
			}
		})
	}
}
