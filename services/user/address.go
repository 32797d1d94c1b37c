package user

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// maxAddresses is how many addresses an account keeps: more than anybody lives at, and few enough to choose from.
const maxAddresses = 20

// addressRow is a row of address.
type addressRow struct {
	ID        uuid.UUID
	Sealed    []byte // a home
	IsDefault bool
	CreatedAt time.Time
	UpdatedAt time.Time
}

// home is all of an address that says where somebody lives.
type home struct {
	Label      string `json:"label"`
	Recipient  string `json:"recipient"`
	Line1      string `json:"line1"`
	Line2      string `json:"line2"`
	City       string `json:"city"`
	Region     string `json:"region"`
	PostalCode string `json:"postal_code"`
	Country    string `json:"country"`
	Phone      string `json:"phone"`
}

// showAddress is the address as its owner sees it.
func (s *sealed) showAddress(ctx context.Context, r addressRow) (user.Address, error) {
	h, err := s.address.Open(ctx, r.ID.String(), r.Sealed)
	return r.at(h), err
}

func (r addressRow) at(h home) user.Address {
	return user.Address{
		ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		AddressFields: user.AddressFields{
			Label: h.Label, Recipient: h.Recipient, Line1: h.Line1, Line2: h.Line2, City: h.City, Region: h.Region,
			PostalCode: h.PostalCode, Country: h.Country, Phone: h.Phone, Default: r.IsDefault,
		},
	}
}

// newHome is what is kept of f.
func newHome(f user.AddressFields) (home, error) {
	var w wrong
	h := home{
		Country:    f.Country,
		Label:      w.text("body.label", f.Label, 1, 50),
		Recipient:  w.text("body.recipient", f.Recipient, 1, 100),
		Line1:      w.text("body.line1", f.Line1, 1, 200),
		Line2:      w.text("body.line2", f.Line2, 0, 200),
		City:       w.text("body.city", f.City, 1, 100),
		Region:     w.text("body.region", f.Region, 0, 100),
		PostalCode: w.text("body.postal_code", f.PostalCode, 0, 20),
		Phone:      w.text("body.phone", f.Phone, 0, 30),
	}
	if !isCountry(f.Country) {
		w.add("body.country", "must be a country's two letters, such as CH")
	}
	return h, w.err()
}

var errNoAddress = fault.New(fault.NotFound, "no_such_address", "there is no such address")

// Addresses gives the caller's addresses, oldest first.
func (s *Service) Addresses(ctx context.Context, in *user.ListAddressesInput) (*contract.Body[contract.Page[user.Address]], error) {
	after, err := contract.After[byID](in.Paging)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = &byID{} // which every id is after
	}
	var rows []addressRow
	err = s.db.WithContext(ctx).Raw(addresses+"WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?",
		identity.From(ctx).UserID, after.ID, in.Limit()+1).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	list := make([]user.Address, len(rows))
	for i, r := range rows {
		if list[i], err = s.sealed.showAddress(ctx, r); err != nil {
			return nil, err
		}
	}
	return contract.PageOf(list, in.Limit(), func(a user.Address) user.Address { return a }, func(a user.Address) any { return byID{a.ID} })
}

// AddAddress keeps an address. Returns Conflict, code too_many_addresses, where there are twenty.
func (s *Service) AddAddress(ctx context.Context, in *user.AddAddressInput) (*contract.Created[user.Address], error) {
	where, err := newHome(in.Body)
	if err != nil {
		return nil, err
	}
	now := s.now()
	row := addressRow{ID: uuid.Must(uuid.NewV7()), IsDefault: in.Body.Default, CreatedAt: now, UpdatedAt: now}
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[user.Address], error) {
		me, err := lockOwn(ctx, tx)
		if err != nil {
			return nil, err
		}
		var kept int64
		if err := tx.Raw("SELECT count(*) FROM address WHERE user_id = ?", me).Scan(&kept).Error; err != nil {
			return nil, err
		}
		if kept >= maxAddresses {
			return nil, fault.New(fault.Conflict, "too_many_addresses", "an account keeps at most %d addresses; remove one first", maxAddresses)
		}
		if err := clearDefault(tx, me, row); err != nil {
			return nil, err
		}
		err = tx.Exec("INSERT INTO address (id, user_id, sealed, is_default, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)",
			row.ID, me, s.sealed.address.Seal(row.ID.String(), where), row.IsDefault, row.CreatedAt, row.UpdatedAt).Error
		if err != nil {
			return nil, err
		}
		return &contract.Created[user.Address]{Location: "/api/v1/users/me/addresses/" + row.ID.String(), Body: row.at(where)}, nil
	})
}

// lockOwn locks the caller's account, under which addresses are counted and the default changes hands, and gives its id.
func lockOwn(ctx context.Context, tx *gorm.DB) (uuid.UUID, error) {
	me := identity.From(ctx).UserID
	if err := lockAccounts(tx, me); err != nil {
		return me, err
	}
	_, err := findAccount(tx, me)
	return me, err
}

// clearDefault takes the default from the others when next is to be it.
func clearDefault(tx *gorm.DB, me uuid.UUID, next addressRow) error {
	if !next.IsDefault {
		return nil
	}
	return tx.Exec("UPDATE address SET is_default = false, updated_at = ? WHERE user_id = ? AND is_default AND id <> ?", next.UpdatedAt, me, next.ID).Error
}

// Address gives one of the caller's addresses.
func (s *Service) Address(ctx context.Context, in *contract.ByID) (*contract.Body[user.Address], error) {
	row, err := findAddress(s.db.WithContext(ctx), identity.From(ctx).UserID, in.ID)
	if err != nil {
		return nil, err
	}
	a, err := s.sealed.showAddress(ctx, row)
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Address]{Body: a}, nil
}

const addresses = "SELECT id, sealed, is_default, created_at, updated_at FROM address "

func findAddress(tx *gorm.DB, owner, id uuid.UUID) (r addressRow, err error) {
	err = postgres.Found(tx.Raw(addresses+"WHERE id = ? AND user_id = ?", id, owner).Scan(&r), errNoAddress)
	return r, err
}

// ReplaceAddress makes one of the caller's addresses another.
func (s *Service) ReplaceAddress(ctx context.Context, in *user.ReplaceAddressInput) (*contract.Body[user.Address], error) {
	where, err := newHome(in.Body)
	if err != nil {
		return nil, err
	}
	row := addressRow{ID: in.ID, IsDefault: in.Body.Default, UpdatedAt: s.now()}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		me, err := lockOwn(ctx, tx)
		if err != nil {
			return err
		}
		if err := clearDefault(tx, me, row); err != nil {
			return err
		}
		res := tx.Exec("UPDATE address SET sealed = ?, is_default = ?, updated_at = ? WHERE id = ? AND user_id = ?",
			s.sealed.address.Seal(row.ID.String(), where), row.IsDefault, row.UpdatedAt, row.ID, me)
		if err := postgres.Found(res, errNoAddress); err != nil {
			return err
		}
		row, err = findAddress(tx, me, in.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Address]{Body: row.at(where)}, nil
}

// RemoveAddress removes one of the caller's addresses.
func (s *Service) RemoveAddress(ctx context.Context, in *contract.ByID) (*contract.None, error) {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		return postgres.Found(tx.Exec("DELETE FROM address WHERE id = ? AND user_id = ?", in.ID, identity.From(ctx).UserID), errNoAddress)
	})
	if err != nil {
		return nil, err
	}
	return &contract.None{}, nil
}
