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
	ID         uuid.UUID
	Label      string
	Recipient  string
	Line1      string
	Line2      string
	City       string
	Region     string
	PostalCode string
	Country    string
	Phone      string
	IsDefault  bool
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

func (r addressRow) address() user.Address {
	return user.Address{
		ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		AddressFields: user.AddressFields{
			Label: r.Label, Recipient: r.Recipient, Line1: r.Line1, Line2: r.Line2, City: r.City, Region: r.Region,
			PostalCode: r.PostalCode, Country: r.Country, Phone: r.Phone, Default: r.IsDefault,
		},
	}
}

// newAddressRow is what is kept of f.
func newAddressRow(id uuid.UUID, f user.AddressFields, now time.Time) (addressRow, error) {
	var w wrong
	r := addressRow{
		ID: id, IsDefault: f.Default, CreatedAt: now, UpdatedAt: now, Country: f.Country,
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
	return r, w.err()
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
	return contract.PageOf(rows, in.Limit(), addressRow.address, func(r addressRow) any { return byID{r.ID} })
}

// AddAddress keeps an address. Returns Conflict, code too_many_addresses, where there are twenty.
func (s *Service) AddAddress(ctx context.Context, in *user.AddAddressInput) (*contract.Created[user.Address], error) {
	row, err := newAddressRow(uuid.Must(uuid.NewV7()), in.Body, s.now())
	if err != nil {
		return nil, err
	}
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
		err = tx.Exec(`INSERT INTO address (id, user_id, label, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			row.ID, me, row.Label, row.Recipient, row.Line1, row.Line2, row.City, row.Region, row.PostalCode, row.Country, row.Phone,
			row.IsDefault, row.CreatedAt, row.UpdatedAt).Error
		if err != nil {
			return nil, err
		}
		return &contract.Created[user.Address]{Location: "/api/v1/users/me/addresses/" + row.ID.String(), Body: row.address()}, nil
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
	return &contract.Body[user.Address]{Body: row.address()}, nil
}

const addresses = `SELECT id, label, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at, updated_at FROM address `

func findAddress(tx *gorm.DB, owner, id uuid.UUID) (r addressRow, err error) {
	err = postgres.Found(tx.Raw(addresses+"WHERE id = ? AND user_id = ?", id, owner).Scan(&r), errNoAddress)
	return r, err
}

// ReplaceAddress makes one of the caller's addresses another.
func (s *Service) ReplaceAddress(ctx context.Context, in *user.ReplaceAddressInput) (*contract.Body[user.Address], error) {
	row, err := newAddressRow(in.ID, in.Body, s.now())
	if err != nil {
		return nil, err
	}
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		me, err := lockOwn(ctx, tx)
		if err != nil {
			return err
		}
		if err := clearDefault(tx, me, row); err != nil {
			return err
		}
		res := tx.Exec(`UPDATE address SET label = ?, recipient = ?, line1 = ?, line2 = ?, city = ?, region = ?, postal_code = ?,
			country = ?, phone = ?, is_default = ?, updated_at = ? WHERE id = ? AND user_id = ?`,
			row.Label, row.Recipient, row.Line1, row.Line2, row.City, row.Region, row.PostalCode,
			row.Country, row.Phone, row.IsDefault, row.UpdatedAt, row.ID, me)
		if err := postgres.Found(res, errNoAddress); err != nil {
			return err
		}
		row, err = findAddress(tx, me, in.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &contract.Body[user.Address]{Body: row.address()}, nil
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
