package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"souk/shared/loop"
	"souk/shared/postgres"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gorm.io/gorm"
)

const (
	// lookEvery is how often an instance looks whether keys have changed: one small query.
	lookEvery = 2 * time.Second
	// settleTime is how long a new key only opens: by then every instance has looked.
	settleTime = 5 * time.Second
	// missTime bounds the look at the keys in the middle of a read.
	missTime = time.Second
)

// Keys are the keysets of one service's database. They are safe for concurrent use once loaded.
type Keys struct {
	service string
	db      *gorm.DB
	kek     tink.AEAD
	settle  time.Duration // how long a new key only opens

	// What was declared, before Load.
	wanted  map[string]*tinkpb.KeyTemplate // by name of the set
	columns []place

	loading sync.Mutex
	sets    atomic.Pointer[map[string]*set]
}

// set is a keyset as it was at some version. It never changes.
type set struct {
	version int64
	handle  *keyset.Handle
	ids     map[uint32]bool // of its keys
	primary uint32

	aead tink.AEAD          // of a domain
	prf  *prf.Set           // of an index
	open tink.HybridDecrypt // of a letterbox
}

// New makes the keys of service in db, wrapped by kek: FileKEK, or a KMS. Declare columns, indexes and letterboxes on them,
// and then Load them.
func New(service string, db *gorm.DB, kek tink.AEAD) *Keys {
	k := &Keys{service: service, db: db, kek: kek, settle: settleTime, wanted: map[string]*tinkpb.KeyTemplate{}}
	k.sets.Store(&map[string]*set{})
	return k
}

// Load reads the keys, and makes those that are missing. Returns an error where a set was wrapped with another
// key-encryption key.
func (k *Keys) Load(ctx context.Context) error {
	for name, template := range k.wanted {
		if err := k.offer(ctx, name, template); err != nil {
			return fmt.Errorf("make keyset %s: %w", name, err)
		}
	}
	return k.look(ctx)
}

// offer makes a keyset where there is none. Of instances that start together the first wins.
func (k *Keys) offer(ctx context.Context, name string, template *tinkpb.KeyTemplate) error {
	var there bool
	if err := k.db.WithContext(ctx).Raw("SELECT EXISTS (SELECT FROM keyset WHERE name = ?)", name).Scan(&there).Error; err != nil || there {
		return err
	}
	handle, err := keyset.NewHandle(template)
	if err != nil {
		return err
	}
	wrapped, err := k.wrap(name, handle)
	if err != nil {
		return err
	}
	return k.db.WithContext(ctx).Exec("INSERT INTO keyset (name, wrapped) VALUES (?, ?) ON CONFLICT DO NOTHING", name, postgres.Bytea(wrapped)).Error
}

// Run keeps up with changes of the keys until ctx ends.
func (k *Keys) Run(log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error { return loop.Every(ctx, lookEvery, log, "look at the keys", k.look) }
}

// row is a row of keyset.
type row struct {
	Name    string
	Wrapped []byte
	Version int64
}

// look reads the sets that have changed.
func (k *Keys) look(ctx context.Context) error {
	k.loading.Lock()
	defer k.loading.Unlock()
	known := *k.sets.Load()
	var rows []row
	if err := k.db.WithContext(ctx).Raw("SELECT name, wrapped, version FROM keyset").Scan(&rows).Error; err != nil {
		return fmt.Errorf("read keysets: %w", err)
	}
	sets := make(map[string]*set, len(rows))
	for _, r := range rows {
		s := known[r.Name]
		if s == nil || s.version != r.Version {
			var err error
			if s, err = k.read(r); err != nil {
				return fmt.Errorf("keyset %s: %w", r.Name, err)
			}
		}
		sets[r.Name] = s
	}
	k.sets.Store(&sets)
	return nil
}

func (k *Keys) read(r row) (*set, error) {
	handle, err := k.unwrap(r)
	if err != nil {
		return nil, err
	}
	info := handle.KeysetInfo()
	s := &set{version: r.Version, handle: handle, ids: map[uint32]bool{}, primary: info.GetPrimaryKeyId()}
	for _, key := range info.GetKeyInfo() {
		s.ids[key.GetKeyId()] = true
	}
	// What a set is for is in its keys.
	switch kind(r.Name) {
	case indexes:
		s.prf, err = prf.NewPRFSet(handle)
	case letters:
		s.open, err = hybrid.NewHybridDecrypt(handle)
	default:
		s.aead, err = aead.New(handle)
	}
	return s, err
}

func (k *Keys) unwrap(r row) (*keyset.Handle, error) {
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(r.Wrapped)), k.kek, k.wrapping(r.Name))
	if err != nil {
		return nil, fmt.Errorf("it was wrapped with another key-encryption key than ours: %w", err)
	}
	return handle, nil
}

func (k *Keys) wrap(name string, handle *keyset.Handle) ([]byte, error) {
	var wrapped bytes.Buffer
	err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&wrapped), k.kek, k.wrapping(name))
	return wrapped.Bytes(), err
}

// wrapping binds a wrapped set to its service and name.
func (k *Keys) wrapping(name string) []byte { return []byte(k.service + "|keyset|" + name) }

// errNotLoaded is a bug in the caller.
var errNotLoaded = errors.New("seal: the keys are not loaded")

func (k *Keys) set(name string) (*set, error) {
	if s := (*k.sets.Load())[name]; s != nil {
		return s, nil
	}
	return nil, errNotLoaded
}

// sets of each kind are told apart by how their names begin; what is left is a domain's.
const (
	indexes = "index:"
	letters = "letters:"
)

func kind(name string) string {
	for _, k := range []string{indexes, letters} {
		if len(name) > len(k) && name[:len(k)] == k {
			return k
		}
	}
	return ""
}
