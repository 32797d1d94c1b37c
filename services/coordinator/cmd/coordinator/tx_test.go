package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"souk/migrations"
	"souk/services/coordinator"
	"souk/shared/app"
	wire "souk/shared/contract/coordinator"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// desk is an operator at a register.
type desk struct {
	db      *gorm.DB
	console console
	out     *bytes.Buffer
}

func setup(t *testing.T) *desk {
	t.Helper()
	d := &desk{db: testkit.Postgres(t, migrations.Coordinator()), out: new(bytes.Buffer)}
	d.console = console{operator: coordinator.NewOperator(d.db, time.Now, "desk/tx"), out: d.out, now: time.Now, user: "ann"}
	return d
}

// tx runs a command, and gives what it prints and its exit status.
func (d *desk) tx(t *testing.T, args ...string) (string, int) {
	t.Helper()
	d.out.Reset()
	err := exit(d.console.run(t.Context(), args))
	if err == nil {
		return d.out.String(), 0
	}
	var e *app.ExitError
	if !errors.As(err, &e) {
		t.Fatalf("%v: got %v", args, err)
	}
	return d.out.String() + e.Error(), e.Status
}

// decided is a row of the register: completed or in doubt, as old as that.
func (d *desk) decided(t *testing.T, outcome string, completed bool, age time.Duration) string {
	t.Helper()
	gid := uuid.NewString()
	err := d.db.Exec(`INSERT INTO decision (gid, outcome, branches, decided_at, completed_at, next_at, waiting_for, attempts, timeline)
		VALUES (@gid, @outcome, '[{"branch": 0, "service": "payment"}, {"branch": 1, "service": "product"}]',
			now() - make_interval(secs => @age), CASE WHEN @completed THEN now() - make_interval(secs => @age) + interval '12 milliseconds' END,
			now() + interval '1 hour', CASE WHEN NOT @completed THEN 'product' END, 7,
			'[{"at": "2026-01-02T03:04:05.000006Z", "instance": "coordinator-2", "event": "begun"},
			  {"at": "2026-01-02T03:04:05.250006Z", "instance": "coordinator-2", "event": "prepared", "service": "payment"},
			  {"at": "2026-01-02T03:04:07.000006Z", "instance": "coordinator-1", "event": "taken_over"}]')`,
		map[string]any{"gid": gid, "outcome": outcome, "completed": completed, "age": age.Seconds()}).Error
	if err != nil {
		t.Fatal(err)
	}
	return gid
}

func TestTx_showsWhatIsInDoubt(t *testing.T) {
	t.Parallel()
	d := setup(t)
	if out, status := d.tx(t, "ls"); out != "nothing is in doubt\n" || status != 0 {
		t.Errorf("got %q, %d", out, status)
	}
	older, newer := d.decided(t, "committed", false, time.Minute), d.decided(t, "committed", false, time.Second)
	done := d.decided(t, "aborted", true, 2*time.Minute)

	out, status := d.tx(t, "ls")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if status != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "TRANSACTION ") || !strings.HasPrefix(lines[1], older) || !strings.HasPrefix(lines[2], newer) ||
		!strings.Contains(lines[1], "committed  1m0s  not yet: waits for product  7       payment,product") {
		t.Errorf("got %d\n%s", status, out)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"older":          {[]string{"ls", "--older", "30s"}, []string{older}},
		"at most one":    {[]string{"ls", "--limit=1"}, []string{older}},
		"all":            {[]string{"ls", "--all"}, []string{newer, older, done}},
		"aborted of all": {[]string{"ls", "--all", "--state", "aborted"}, []string{done}},
		"none":           {[]string{"ls", "--older", "1h"}, nil},
	} {
		out, status := d.tx(t, append(c.args, "--json")...)
		var list []wire.Transaction
		if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 || list == nil {
			t.Fatalf("%s: %v, %d\n%s", name, err, status, out)
		}
		var got []string
		for _, tx := range list {
			got = append(got, tx.GID.String())
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestTx_showsEveryStepWithItsInstance(t *testing.T) {
	t.Parallel()
	d := setup(t)
	gid := d.decided(t, "committed", false, time.Minute)
	if err := d.db.Exec(`UPDATE decision SET timeline = timeline || '[{"at": "2026-01-02T03:04:08Z", "instance": "x", "event": "heuristic", "detail": "a\u001b[2Jb"}]'`).Error; err != nil {
		t.Fatal(err)
	}
	out, status := d.tx(t, "show", gid)
	for _, want := range []string{
		gid, "waits for product", "drives       7",
		"2026-01-02 03:04:05.000006  0s",
		"250ms      coordinator-2  prepared    payment",
		"2s         coordinator-1  taken_over",
		"a·[2Jb", // what others wrote does not move the cursor
	} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, no %q in\n%s", status, want, out)
		}
	}
	out, _ = d.tx(t, "show", "--json", gid)
	var line wire.Timeline
	if err := json.Unmarshal([]byte(out), &line); err != nil || len(line.Events) != 4 || line.WaitingFor != "product" {
		t.Errorf("%v\n%s", err, out)
	}
	if out, status := d.tx(t, "show", uuid.NewString()); status != unknown {
		t.Errorf("got %d, %s", status, out)
	}
}

func TestTx_resolvesAndNeverContradicts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	unheardOf, committed := uuid.NewString(), d.decided(t, "committed", false, time.Minute)
	if out, status := d.tx(t, "resolve", unheardOf, "--abort", "--reason", "its coordinator burned down"); status != 0 || !strings.Contains(out, "is aborted") {
		t.Errorf("got %d, %s", status, out)
	}
	if out, status := d.tx(t, "resolve", unheardOf, "--abort", "--reason", "again", "--by", "bob"); status != 0 || !strings.Contains(out, "nothing was changed") {
		t.Errorf("got %d, %s", status, out)
	}
	out, _ := d.tx(t, "ls", "--all")
	if !strings.Contains(out, "forced by ann: its coordinator burned down") {
		t.Errorf("got\n%s", out)
	}
	if out, status := d.tx(t, "resolve", "--abort", "--reason", "gone", committed); status != forbids || !strings.Contains(out, "the transaction is committed, and that is for ever") {
		t.Errorf("got %d, %s", status, out)
	}

	if out, status := d.tx(t, "resolve", committed, "--redrive"); status != 0 || !strings.Contains(out, "is due now") {
		t.Errorf("got %d, %s", status, out)
	}
	var due bool
	if err := d.db.Raw("SELECT outcome = 'committed' AND next_at <= now() FROM decision WHERE gid = ?", committed).Scan(&due).Error; err != nil || !due {
		t.Errorf("due %v, %v", due, err)
	}
	if out, status := d.tx(t, "resolve", unheardOf, "--redrive"); status != forbids {
		t.Errorf("got %d, %s", status, out)
	}
	if out, status := d.tx(t, "resolve", uuid.NewString(), "--redrive"); status != unknown {
		t.Errorf("got %d, %s", status, out)
	}
}

func TestTx_acknowledgesHeuristics(t *testing.T) {
	t.Parallel()
	d := setup(t)
	gid := d.decided(t, "committed", true, time.Minute)
	if out, status := d.tx(t, "ack", gid, "--reason", "x"); status != forbids {
		t.Errorf("got %d, %s", status, out)
	}
	if err := d.db.Exec("UPDATE decision SET heuristic = true").Error; err != nil {
		t.Fatal(err)
	}
	if out, _ := d.tx(t, "heuristics"); !strings.Contains(out, gid) || !strings.Contains(out, "HEURISTIC: look at it") {
		t.Errorf("got\n%s", out)
	}
	if out, status := d.tx(t, "ack", gid, "--reason", "paid by hand"); status != 0 {
		t.Errorf("got %d, %s", status, out)
	}
	if out, _ := d.tx(t, "heuristics"); out != "no heuristic outcome waits for anybody\n" {
		t.Errorf("got\n%s", out)
	}
	if out, _ := d.tx(t, "heuristics", "--all"); !strings.Contains(out, "acknowledged by ann: paid by hand") {
		t.Errorf("got\n%s", out)
	}
}

func TestTx_counts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	if out, status := d.tx(t, "stats"); status != 0 || !strings.Contains(out, "committed               0\n") {
		t.Errorf("an empty register: %d\n%s", status, out)
	}
	d.decided(t, "committed", true, time.Hour)
	d.decided(t, "committed", false, time.Minute)
	d.decided(t, "aborted", true, time.Second)
	out, status := d.tx(t, "stats")
	for _, want := range []string{"committed               2\n", "aborted                 1\n", "in doubt                1\n", "the oldest for        1m0s\n", "retries by recovery     18\n"} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, no %q in\n%s", status, want, out)
		}
	}
	out, _ = d.tx(t, "stats", "--since", "10m", "--json")
	var s wire.Statistics
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Committed != 1 || s.Since == nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A command that makes no sense says what is wrong with it, and does nothing.
func TestTx_refusesNonsense(t *testing.T) {
	t.Parallel()
	d := setup(t)
	gid := uuid.NewString()
	for want, args := range map[string][]string{
		`there is no command "sing"`:          {"sing"},
		"show needs the id of a transaction":  {"show"},
		`"me" is not the id of a transaction`: {"show", "me"},
		"what to do with":                     {"show", gid, gid},
		"say why":                             {"resolve", gid, "--abort"},
		"say why: ":                           {"resolve", gid, "--abort", "--reason", " "},
		"say why: --reason":                   {"ack", gid},
		"say who you are":                     {"resolve", gid, "--abort", "--reason", "x", "--by", ""},
		"say who you are: --by":               {"resolve", gid, "--redrive", "--by", " "},
		"one of --abort and --redrive":        {"resolve", gid},
		"one of --abort":                      {"resolve", gid, "--abort", "--redrive"},
		"is committed or aborted, not":        {"ls", "--state", "pending"},
		"--limit and --older":                 {"ls", "--limit", "0"},
		"invalid value":                       {"ls", "--older", "soon"},
		"flag provided but not defined":       {"ls", "--reason", "x"},
	} {
		out, status := d.tx(t, args...)
		if status != nonsense || !strings.Contains(out, want) {
			t.Errorf("%v: got %d, %s, want %q", args, status, out, want)
		}
	}
	var rows int
	if err := d.db.Raw("SELECT count(*) FROM decision").Scan(&rows).Error; err != nil || rows != 0 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
