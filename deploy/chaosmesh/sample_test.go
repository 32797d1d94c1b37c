package main

import (
	"testing"
	"time"
)

// What judges must itself be right: each of these is a way to overlook a failure.
func TestSamples(t *testing.T) {
	t.Parallel()
	begin := time.UnixMicro(1_000_000_000)
	at := func(ms int64, took time.Duration, result string) sample {
		return sample{ID: "x", Began: begin.UnixMicro() + ms*1000, Took: took, Result: result, Instance: "a"}
	}
	var calls samples
	for i := range int64(200) {
		calls = append(calls, at(i*10, time.Duration(i+1)*time.Millisecond, ok))
	}
	calls[50].Result, calls[100].Result = "500", "timeout"
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"success", calls.success(), 0.99},
		{"success of none", samples(nil).success(), 1.0},
		{"failure", calls.failure(), 0.01},
		{"99th percentile", calls.p99(), 199 * time.Millisecond},
		{"between", len(calls.between(begin.Add(time.Second), begin.Add(1100*time.Millisecond))), 10},
		{"last failure", calls.lastFailure(begin.Add(600 * time.Millisecond)), 501 * time.Millisecond},
		{"last failure of none", calls.lastFailure(begin.Add(1500 * time.Millisecond)), time.Duration(0)},
		{"timeouts", calls.results()["timeout"], 1},
		{"never back", samples{at(0, time.Second, "timeout")}.back(&process{instance: "a"}, begin), time.Hour},
		{"back", calls.back(&process{instance: "a"}, begin.Add(5*time.Millisecond)), 7 * time.Millisecond},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestMost_countsTheFullestTime(t *testing.T) {
	t.Parallel()
	from := time.UnixMicro(0)
	ms := func(list ...int64) (moments []int64) {
		for _, m := range list {
			moments = append(moments, m*1000)
		}
		return moments
	}
	for _, c := range []struct {
		moments []int64
		want    int
	}{
		{nil, 0},
		{ms(1, 2, 3, 99), 0},                       // on their way when it opened
		{ms(200, 5100, 5300), 2},                   // across any border
		{ms(200, 5200, 10200), 1},                  // five seconds apart is not within five
		{ms(200, 201, 202, 203, 6000, 6001), 4},    // a burst
		{ms(200, 3000, 5199, 5200, 8000, 9000), 4}, // 5199 to 9000
	} {
		if got := most(c.moments, from, 5*time.Second); got != c.want {
			t.Errorf("%v: got %d, want %d", c.moments, got, c.want)
		}
	}
}

func TestTrial_passesOnlyWhatWasJudged(t *testing.T) {
	t.Parallel()
	none, met, missed := new(trial), new(trial), new(trial)
	met.atMost("a", 1, 1, "")
	missed.atMost("a", 1, 1, "")
	missed.atLeast("b", 1, 2, "")
	if none.passed() || !met.passed() || missed.passed() {
		t.Errorf("got %v %v %v, want false true false", none.passed(), met.passed(), missed.passed())
	}
}
