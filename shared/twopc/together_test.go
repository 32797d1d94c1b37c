package twopc_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"souk/shared/testkit"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

// states are how the votes, or the outcomes, of a company went.
func states[T any](all []T, state func(T) twopc.BranchState) string {
	s := ""
	for _, one := range all {
		s += fmt.Sprintf("%s ", state(one))
	}
	return s
}

func votes(v []twopc.Voted) string {
	return states(v, func(v twopc.Voted) twopc.BranchState { return v.State })
}

func outcomes(f []twopc.Finished) string {
	return states(f, func(f twopc.Finished) twopc.BranchState { return f.State })
}

func commitAll(messages ...twopc.Prepare) (d []twopc.Decision) {
	for _, m := range messages {
		d = append(d, commit(m.GID))
	}
	return d
}

// One that cannot be voted on in company is left out, whatever the reason, and the others are voted on.
func TestPrepareAll_nobodySuffersForAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		odd func(t *testing.T, b *testkit.Bank) twopc.Prepare
		own string // its vote in company
	}{
		"a yes":             {func(*testing.T, *testkit.Bank) twopc.Prepare { return debit(uuid.New(), 1) }, "prepared"},
		"a no":              {func(*testing.T, *testkit.Bank) twopc.Prepare { return debit(uuid.New(), 1000) }, ""},
		"an unknown action": {func(*testing.T, *testkit.Bank) twopc.Prepare { m := debit(uuid.New(), 1); m.Action = "fly"; return m }, ""},
		"past its deadline": {func(*testing.T, *testkit.Bank) twopc.Prepare {
			m := debit(uuid.New(), 1)
			m.Deadline = time.Now().Add(-time.Second)
			return m
		}, ""},
		"a repetition": {func(t *testing.T, b *testkit.Bank) twopc.Prepare {
			t.Helper()
			m := debit(uuid.New(), 1)
			if _, err := b.Participant.Prepare(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			return m
		}, ""},
		"one that was aborted before it came": {func(t *testing.T, b *testkit.Bank) twopc.Prepare {
			t.Helper()
			m := debit(uuid.New(), 1)
			if _, err := b.Participant.Finish(t.Context(), abort(m.GID)); err != nil {
				t.Fatal(err)
			}
			return m
		}, ""},
		"one whose row is locked": {func(t *testing.T, b *testkit.Bank) twopc.Prepare {
			t.Helper()
			b.Open(t, 10, "locked")
			other := b.DB.Begin()
			t.Cleanup(func() { other.Rollback() })
			if err := other.Exec("SELECT FROM account WHERE id = 'locked' FOR UPDATE").Error; err != nil {
				t.Fatal(err)
			}
			m := debit(uuid.New(), 1)
			m.Payload = []byte(`{"account":"locked","amount":1}`)
			return m
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.NewBank(t, "bank", testkit.Hosts{}.Client())
			b.Open(t, 100, "ann")
			odd := c.odd(t, b)
			_, before := b.Total(t)
			first, last := debit(uuid.New(), 10), debit(uuid.New(), 20)
			got, err := b.Participant.PrepareAll(t.Context(), []twopc.Prepare{first, odd, last})
			if want := "prepared " + c.own + " prepared "; err != nil || votes(got) != want {
				t.Fatalf("voted %q, %v, want %q", votes(got), err, want)
			}
			own := int64(0)
			if c.own != "" {
				own = 1
			}
			if _, held := b.Total(t); held != before+30+own {
				t.Errorf("%d is held, want %d", held, before+30+own)
			}
			if done := b.Participant.FinishAll(t.Context(), commitAll(first, last)); outcomes(done) != "committed committed " {
				t.Errorf("carried out: %q", outcomes(done))
			}
			if _, held := b.Total(t); held != before+own {
				t.Errorf("%d is held after all, want %d", held, before+own)
			}
		})
	}
}

// Each gets the answer that it would get alone.
func TestFinishAll_nobodySuffersForAnother(t *testing.T) {
	t.Parallel()
	b := testkit.NewBank(t, "bank", testkit.Hosts{}.Client())
	b.Open(t, 100, "ann")
	var known [4]twopc.Prepare
	for i := range known {
		known[i] = debit(uuid.New(), 10)
		if _, err := b.Participant.Prepare(t.Context(), known[i]); err != nil {
			t.Fatal(err)
		}
	}
	done, undone := commit(known[2].GID), abort(known[3].GID)
	for _, d := range []twopc.Decision{done, undone} {
		if _, err := b.Participant.Finish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	got := b.Participant.FinishAll(t.Context(), []twopc.Decision{
		commit(known[0].GID),
		abort(known[1].GID),
		done, undone, // repetitions
		commit(known[3].GID), // contradicts
		commit(uuid.New()),   // unknown
		abort(uuid.New()),    // before its prepare
		commit(known[0].GID), // named twice
	})
	if want := "committed aborted committed aborted refused refused aborted committed "; outcomes(got) != want {
		t.Errorf("got %q, want %q", outcomes(got), want)
	}
	if total, held := b.Total(t); total != 80 || held != 0 {
		t.Errorf("%d in all, %d held, want 80 and 0", total, held)
	}
}

// Companies that have accounts in common, in every order, at the same time: everything ends, and the money is right.
func TestTogether_underLoad(t *testing.T) {
	t.Parallel()
	b := testkit.NewBank(t, "bank", testkit.Hosts{}.Client())
	accounts := []string{"a", "b", "c", "d"}
	b.Open(t, 1000, accounts...)
	var mu sync.Mutex
	spent := int64(0)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 15 {
				company := make([]twopc.Prepare, 8)
				for i := range company {
					company[i] = debit(uuid.New(), 1)
					company[i].Payload = fmt.Appendf(nil, `{"account":%q,"amount":%d}`, accounts[rand.IntN(len(accounts))], 1+rand.IntN(20))
				}
				voted, err := b.Participant.PrepareAll(t.Context(), company)
				if err != nil {
					t.Error(err)
					return
				}
				var yes []twopc.Prepare
				for i, v := range voted {
					if v.State == twopc.Prepared {
						yes = append(yes, company[i])
					}
				}
				for i, f := range b.Participant.FinishAll(t.Context(), commitAll(yes...)) {
					if f.State != twopc.Committed {
						t.Errorf("a branch that voted yes is %q", f.State)
						continue
					}
					var amount int64
					_, _ = fmt.Sscanf(string(yes[i].Payload[len(`{"account":"a",`):]), `"amount":%d}`, &amount)
					mu.Lock()
					spent += amount
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	if total, held := b.Total(t); held != 0 || total != 4000-spent {
		t.Errorf("%d in all, %d held, want %d and 0", total, held, 4000-spent)
	}
	if spent == 0 {
		t.Error("nothing was spent")
	}
}
