package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"souk/shared/postgres"
	"souk/shared/seal"
	"souk/shared/testkit"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gorm.io/gorm"
)

type address struct {
	Line1, City string
}

// house is a service with something to seal, as one of its instances sees it.
type house struct {
	db      *gorm.DB
	keys    *seal.Keys
	name    *seal.Column[string]
	address *seal.Column[address]
	byName  *seal.Index
	letters *seal.Letterbox
}

func database(t testing.TB) *gorm.DB {
	t.Helper()
	return testkit.Postgres(t, testkit.Migrations(t, "seal"), postgres.MigrationSet{Name: "person", FS: fstest.MapFS{
		"00001_person.sql": {Data: []byte("-- +goose Up\nCREATE TABLE person (id uuid PRIMARY KEY, name bytea, name_index bytea UNIQUE, address bytea);\n-- +goose Down\nDROP TABLE person;")},
	}})
}

func kekFile(t testing.TB) (string, tink.AEAD) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	return path, openKEK(t, path)
}

func openKEK(t testing.TB, path string) tink.AEAD {
	t.Helper()
	kek, err := seal.FileKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func declare(db *gorm.DB, kek tink.AEAD, service string) *house {
	k := seal.New(service, db, kek)
	k.SettleAfter(0)
	return &house{
		db: db, keys: k,
		name:    seal.NewColumn[string](k, seal.Place{Domain: "pii", Table: "person", Column: "name"}),
		address: seal.NewColumn[address](k, seal.Place{Domain: "pii", Table: "person", Column: "address"}),
		byName:  seal.NewIndex(k, "person", "name"),
		letters: seal.NewLetterbox(k, "reference"),
	}
}

func open(t testing.TB, db *gorm.DB, kek tink.AEAD, service string) *house {
	t.Helper()
	h := declare(db, kek, service)
	if err := h.keys.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) put(ctx context.Context, id uuid.UUID, name string) error {
	return h.db.WithContext(ctx).Exec(`INSERT INTO person (id, name, name_index, address) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, name_index = excluded.name_index`,
		id, h.name.Seal(id.String(), name), h.byName.Of(name), h.address.Seal(id.String(), address{"1 " + name + " Road", "Zürich"})).Error
}

func (h *house) get(ctx context.Context, name string) (string, address, error) {
	var row struct {
		ID            uuid.UUID
		Name, Address []byte
	}
	res := h.db.WithContext(ctx).Raw("SELECT id, name, address FROM person WHERE name_index = ?", h.byName.Of(name)).Scan(&row)
	if err := postgres.Found(res, gorm.ErrRecordNotFound); err != nil {
		return "", address{}, err
	}
	got, err := h.name.Open(ctx, row.ID.String(), row.Name)
	if err != nil {
		return "", address{}, err
	}
	where, err := h.address.Open(ctx, row.ID.String(), row.Address)
	return got, where, err
}

func (h *house) bytes(t *testing.T, id uuid.UUID) (b []byte) {
	t.Helper()
	if err := h.db.Raw("SELECT name FROM person WHERE id = ?", id).Row().Scan(&b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestColumn_opensWhereItWasSealedAndNowhereElse(t *testing.T) {
	t.Parallel()
	db := database(t)
	_, kek := kekFile(t)
	h := open(t, db, kek, "user")
	id, other := uuid.New(), uuid.New()
	if err := h.put(t.Context(), id, "Ünal"); err != nil {
		t.Fatal(err)
	}
	name, where, err := h.get(t.Context(), "Ünal")
	if err != nil || name != "Ünal" || where != (address{"1 Ünal Road", "Zürich"}) {
		t.Errorf("got %q, %v, %v", name, where, err)
	}
	sealed := h.bytes(t, id)
	if bytes.Contains(sealed, []byte("nal")) {
		t.Errorf("%q is in the clear", sealed)
	}
	if _, err := h.name.Open(t.Context(), other.String(), sealed); err == nil {
		t.Error("it opens in another row")
	}
	if _, err := h.address.Open(t.Context(), id.String(), sealed); err == nil {
		t.Error("it opens in another column")
	}
	if _, err := open(t, database(t), kek, "user").name.Open(t.Context(), id.String(), sealed); err == nil {
		t.Error("it opens with other keys")
	}
	for i := range sealed {
		forged := bytes.Clone(sealed)
		forged[i] ^= 1
		if _, err := h.name.Open(t.Context(), id.String(), forged); err == nil {
			t.Fatalf("it opens with byte %d changed", i)
		}
	}
	if again, _ := h.name.Seal(id.String(), "Ünal").Bytes(); bytes.Equal(again, sealed) {
		t.Error("the same text is sealed to the same bytes")
	}
}

func TestIndex_findsTheSameTextOfTheSameColumn(t *testing.T) {
	t.Parallel()
	db := database(t)
	_, kek := kekFile(t)
	h := declare(db, kek, "user")
	city := seal.NewIndex(h.keys, "person", "city")
	if err := h.keys.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, _ := h.byName.Of("Ann").Bytes()
	again, _ := open(t, db, kek, "user").byName.Of("Ann").Bytes()
	other, _ := h.byName.Of("Bob").Bytes()
	elsewhere, _ := city.Of("Ann").Bytes()
	if len(a) != 16 || !bytes.Equal(a, again) || bytes.Equal(a, other) || bytes.Equal(a, elsewhere) {
		t.Errorf("got %x, again %x, other text %x, other column %x", a, again, other, elsewhere)
	}
	if err := h.put(t.Context(), uuid.New(), "Ann"); err != nil {
		t.Fatal(err)
	}
	if err := h.put(t.Context(), uuid.New(), "Ann"); err == nil {
		t.Error("two rows have the same name although it is unique")
	}
}

// Instances that start together on an empty database end up with the same keys.
func TestLoad_isOneForAllInstances(t *testing.T) {
	t.Parallel()
	db := database(t)
	path, _ := kekFile(t)
	houses := make([]*house, 6)
	var wg sync.WaitGroup
	for i := range houses {
		wg.Go(func() {
			kek, err := seal.FileKEK(path)
			if err != nil {
				t.Error(err)
				return
			}
			houses[i] = declare(db, kek, "user")
			if err := houses[i].keys.Load(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sealed, err := houses[0].name.Seal("r", "Ann").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range houses {
		if got, err := h.name.Open(t.Context(), "r", sealed); err != nil || got != "Ann" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// Keys change under instances that write and read all the time, and none of them fails once.
func TestRotate_underLiveTraffic(t *testing.T) {
	t.Parallel()
	db := database(t)
	_, kek := kekFile(t)
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 {
		h := open(t, db, kek, "user")
		if i > 0 { // the first never looks by itself: it learns of new keys by what it cannot open
			wg.Go(func() { _ = h.keys.Run(slog.New(slog.DiscardHandler))(ctx) })
		}
		wg.Go(func() {
			id := uuid.New()
			for n := 0; ctx.Err() == nil; n++ {
				name := id.String() + strings.Repeat("x", n%7)
				if err := h.put(context.WithoutCancel(ctx), id, name); err != nil {
					t.Errorf("write: %v", err)
				}
				if got, _, err := h.get(context.WithoutCancel(ctx), name); err != nil || got != name {
					t.Errorf("read: %q, %v", got, err)
				}
				done.Add(1)
			}
		})
	}
	operator := open(t, db, kek, "user")
	old := make([]uuid.UUID, 20)
	for i := range old {
		old[i] = uuid.New()
		if err := operator.put(ctx, old[i], old[i].String()); err != nil {
			t.Fatal(err)
		}
	}
	reader := open(t, db, kek, "user")
	for range 3 {
		before := done.Load()
		if _, err := operator.keys.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		if h, err := operator.keys.Check(ctx); err != nil || h.Stale < 2*len(old) || len(h.Broken) > 0 {
			t.Errorf("after rotate: %+v, %v", h, err)
		}
		if n, err := operator.keys.Rewrap(ctx); err != nil || n < 2*len(old) {
			t.Errorf("rewrap sealed %d anew, %v", n, err)
		}
		for _, id := range old {
			if got, where, err := reader.get(ctx, id.String()); err != nil || got != id.String() || where.City != "Zürich" {
				t.Errorf("got %q, %v, %v", got, where, err)
			}
		}
		testkit.Eventually(t, 20*time.Second, func() bool { return done.Load() > before+10 })
	}
	cancel()
	wg.Wait()
	if _, err := operator.keys.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := operator.keys.Check(t.Context()); err != nil || h.Stale != 0 || len(h.Broken) != 0 || h.Values != 2*(len(old)+3) {
		t.Errorf("in the end: %+v, %v", h, err)
	}
}

func TestCheck_namesWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	db := database(t)
	_, kek := kekFile(t)
	h := open(t, db, kek, "user")
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	for _, id := range ids {
		if err := h.put(t.Context(), id, id.String()); err != nil {
			t.Fatal(err)
		}
	}
	// One person's name is put into another's row.
	if err := db.Exec("UPDATE person SET name = (SELECT name FROM person WHERE id = ?) WHERE id = ?", ids[0], ids[1]).Error; err != nil {
		t.Fatal(err)
	}
	got, err := h.keys.Check(t.Context())
	if err != nil || got.Values != 4 || len(got.Broken) != 1 || got.Broken[0] != "person.name "+ids[1].String() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestKEK_changes(t *testing.T) {
	t.Parallel()
	db := database(t)
	path, kek := kekFile(t)
	h := open(t, db, kek, "user")
	sealed, _ := h.name.Seal("r", "Ann").Bytes()

	_, stranger := kekFile(t)
	if err := declare(db, stranger, "user").keys.Load(t.Context()); err == nil {
		t.Error("keys are read with another key-encryption key")
	}
	if err := declare(db, kek, "order").keys.Load(t.Context()); err == nil {
		t.Error("another service reads the keys")
	}

	old, err := os.ReadFile(path) //nolint:gosec // the test's own
	if err != nil {
		t.Fatal(err)
	}
	fresh := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n"
	write(t, path, fresh+string(old), 0o600)
	both := open(t, db, openKEK(t, path), "user")
	if _, err := both.keys.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, path, fresh, 0o600)
	alone := open(t, db, openKEK(t, path), "user")
	if got, err := alone.name.Open(t.Context(), "r", sealed); err != nil || got != "Ann" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := declare(db, kek, "user").keys.Load(t.Context()); err == nil {
		t.Error("the old key-encryption key still reads the keys")
	}
}

func TestFileKEK_isSafeOrRefused(t *testing.T) {
	t.Parallel()
	path, _ := kekFile(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside it there is something else: %v, %v", entries, err)
	}
	good, err := os.ReadFile(path) //nolint:gosec // the test's own
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by everybody": {string(good), 0o644},
		"empty":                 {"\n", 0o600},
		"short":                 {base64.StdEncoding.EncodeToString(make([]byte, 16)), 0o600},
		"no base64":             {"open sesame", 0o600},
	} {
		path := filepath.Join(t.TempDir(), "kek")
		write(t, path, c.text, c.mode)
		if _, err := seal.FileKEK(path); err == nil || strings.Contains(err.Error(), strings.TrimSpace(c.text)) && len(c.text) > 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLetterbox_opensForItsServiceAlone(t *testing.T) {
	t.Parallel()
	db := database(t)
	_, kek := kekFile(t)
	h := open(t, db, kek, "payment")
	address, err := h.letters.Address()
	if err != nil {
		t.Fatal(err)
	}
	letter, err := seal.Write(address, "payment 1", "CH93 0076 2011 6238 5295 7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.letters.Open(t.Context(), "payment 2", letter); err == nil {
		t.Error("a letter about one payment opens as one about another")
	}
	if _, err := open(t, database(t), kek, "payment").letters.Open(t.Context(), "payment 1", letter); err == nil {
		t.Error("somebody else opens the letter")
	}
	away := open(t, db, kek, "payment")
	if _, err := h.keys.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved, err := h.letters.Address()
	if err != nil {
		t.Fatal(err)
	}
	later, err := seal.Write(moved, "payment 1", "later")
	if err != nil {
		t.Fatal(err)
	}
	for text, letter := range map[string][]byte{"CH93 0076 2011 6238 5295 7": letter, "later": later} {
		if got, err := away.letters.Open(t.Context(), "payment 1", letter); err != nil || got != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	if _, err := seal.Write([]byte("nonsense"), "x", "y"); err == nil {
		t.Error("an address that is none is written to")
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil { //nolint:gosec // the test's own
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkColumn(b *testing.B) {
	_, kek := kekFile(b)
	h := open(b, database(b), kek, "user")
	row, text := uuid.NewString(), "somebody@souk.example"
	sealed, err := h.name.Seal(row, text).Bytes()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			h.name.Seal(row, text)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := h.name.Open(b.Context(), row, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			h.byName.Of(text)
		}
	})
	address, err := h.letters.Address()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if _, err := seal.Write(address, row, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
