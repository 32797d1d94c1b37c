package order

import (
	"context"
	"fmt"
	"sync"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/payment"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/seal"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// sealed is what the service keeps sealed: what customers write.
type sealed struct {
	note    *seal.Column[string]
	answers *seal.Column[[]byte]
}

func declareSealed(keys *seal.Keys) sealed {
	return sealed{
		note:    seal.NewColumn[string](keys, seal.Place{Domain: "note", Table: "orders", Column: "sealed_note"}),
		answers: idempotency.Sealed(keys),
	}
}

// Sealed declares what the service keeps sealed, for who looks after its keys.
func Sealed(keys *seal.Keys) { declareSealed(keys) }

// brief is the order as lists show it.
func (s *sealed) brief(ctx context.Context, o row) (b order.Brief, err error) {
	b = o.brief()
	if o.SealedNote != nil {
		b.Note, err = s.note.Open(ctx, o.ID.String(), o.SealedNote)
	}
	return b, err
}

// show is the order as its customer sees it.
func (s *sealed) show(ctx context.Context, w whole) (order.Order, error) {
	b, err := s.brief(ctx, w.row)
	return order.Order{Brief: b, Lines: w.shown()}, err
}

// sealPlain seals the notes that were written before there was anything to seal them with. It may be interrupted, and be
// done by several instances at once.
func (s *sealed) sealPlain(ctx context.Context, db *gorm.DB) error {
	db = db.WithContext(ctx)
	for {
		var rows []struct {
			ID   uuid.UUID
			Note string
		}
		if err := db.Raw("SELECT id, note FROM orders WHERE note <> '' ORDER BY id LIMIT 500").Scan(&rows).Error; err != nil {
			return fmt.Errorf("seal notes: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		for _, r := range rows {
			err := db.Exec("UPDATE orders SET sealed_note = ?, note = '' WHERE id = ? AND note <> ''", s.note.Seal(r.ID.String(), r.Note), r.ID).Error
			if err != nil {
				return fmt.Errorf("seal note of order %s: %w", r.ID, err)
			}
		}
	}
}

// addressLife is how long the address of payment's letterbox is used before it is asked for again: its key may have
// changed, and the old one still opens.
const addressLife = 5 * time.Minute

// letters writes to the payment service. It is safe for concurrent use.
type letters struct {
	mu      sync.Mutex
	address []byte
	asked   time.Time
}

// write gives the letter that comes with an order; nil for an empty text. Returns Unavailable while the payment service
// has never said what its letterbox is.
func (s *Service) write(ctx context.Context, id uuid.UUID, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	address, err := s.letterbox(ctx)
	if err != nil {
		return nil, err
	}
	return seal.Write(address, payment.AboutOrder(id), text)
}

func (s *Service) letterbox(ctx context.Context) ([]byte, error) {
	s.letters.mu.Lock()
	defer s.letters.mu.Unlock()
	if s.now().Sub(s.letters.asked) < addressLife {
		return s.letters.address, nil
	}
	out, err := payment.GetLetterbox.Call(ctx, s.mesh, &contract.None{})
	if err != nil {
		if s.letters.address != nil {
			return s.letters.address, nil // an old key opens as well
		}
		return nil, fault.New(fault.Unavailable, "", "the payment service cannot be written to just now").Because(err)
	}
	s.letters.address, s.letters.asked = out.Body.Address, s.now()
	return s.letters.address, nil
}
