package order

import (
	"context"
	"time"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/identity/policy"
	"souk/shared/postgres"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	maxWishlists = 50  // of a person
	maxWishes    = 200 // on a list
)

var errNoWishlist = fault.New(fault.NotFound, "", "there is no such wish list")

// wishlistRow is a row of wishlist.
type wishlistRow struct {
	ID        uuid.UUID
	UserID    uuid.UUID
	Name      string
	CreatedAt time.Time
	UpdatedAt time.Time
}

func (r wishlistRow) brief() order.WishlistBrief { return order.WishlistBrief(r) }

const wishlistColumns = "wishlist.id, user_id, name, created_at, updated_at"

// MakeWishlist makes a wish list of the caller. Returns Conflict, code too_many_wishlists.
func (s *Service) MakeWishlist(ctx context.Context, in *order.WishlistInput) (*contract.Created[order.Wishlist], error) {
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[order.Wishlist], error) {
		now := s.now()
		r := wishlistRow{ID: uuid.Must(uuid.NewV7()), UserID: identity.From(ctx).UserID, Name: in.Body.Name, CreatedAt: now, UpdatedAt: now}
		res := tx.Exec(`INSERT INTO wishlist (id, user_id, name, created_at, updated_at)
			SELECT ?, ?, ?, ?, ? WHERE ? > (SELECT count(*) FROM wishlist WHERE user_id = ?)`,
			r.ID, r.UserID, r.Name, now, now, maxWishlists, r.UserID)
		if res.Error == nil && res.RowsAffected == 0 {
			res.Error = fault.New(fault.Conflict, "too_many_wishlists", "you have %d wish lists already", maxWishlists)
		}
		if res.Error != nil {
			return nil, res.Error
		}
		return &contract.Created[order.Wishlist]{
			Location: "/api/v1/wishlists/" + r.ID.String(), Body: order.Wishlist{WishlistBrief: r.brief(), Items: []order.WishlistItem{}},
		}, nil
	})
}

// Wishlists gives the caller's wish lists, or those that others share with them, newest first.
func (s *Service) Wishlists(ctx context.Context, in *order.ListWishlistsInput) (*contract.Body[contract.Page[order.WishlistBrief]], error) {
	after, err := contract.After[wishlistCursor](in.Paging)
	if err != nil {
		return nil, err
	}
	me := identity.From(ctx).UserID
	q := s.db.WithContext(ctx).Table("wishlist").Select(wishlistColumns)
	if in.Shared {
		q = q.Where("id IN (SELECT object FROM share WHERE kind = 'wishlist' AND grantee = ? AND expires_at > ?)", me, s.now())
	} else {
		q = q.Where("user_id = ?", me)
	}
	if after != nil {
		q = q.Where("id < ?", after.ID)
	}
	var rows []wishlistRow
	if err := q.Order("id DESC").Limit(in.Limit() + 1).Scan(&rows).Error; err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), wishlistRow.brief, func(r wishlistRow) any { return wishlistCursor{r.ID} })
}

// wishlistCursor is where a page of wish lists ended.
type wishlistCursor struct {
	ID uuid.UUID `json:"id"`
}

// Wishlist gives a wish list of the caller, or one that is shared with them. Returns NotFound.
func (s *Service) Wishlist(ctx context.Context, in *contract.ByID) (*contract.Body[order.Wishlist], error) {
	r, err := s.reachWishlist(ctx, s.db.WithContext(ctx), in.ID, identity.ReadWishlist, "")
	if err != nil {
		return nil, err
	}
	return withWishes(s.db.WithContext(ctx), r)
}

// DropWishlist throws a wish list of the caller away. Returns NotFound.
func (s *Service) DropWishlist(ctx context.Context, in *contract.ByID) (*contract.None, error) {
	return nil, postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		r, err := s.reachWishlist(ctx, tx, in.ID, identity.OwnWishlist, " FOR UPDATE OF wishlist")
		if err != nil {
			return err
		}
		if err := tx.Exec("DELETE FROM share WHERE kind = 'wishlist' AND object = ?", r.ID).Error; err != nil {
			return err
		}
		return tx.Exec("DELETE FROM wishlist WHERE id = ?", r.ID).Error
	})
}

// AddWish puts a product on a wish list; one that is on it stays. Returns NotFound; Forbidden where it is shared to be looked
// at; Invalid, code unknown_product; Conflict, code wishlist_full; Unavailable while the product service is away.
func (s *Service) AddWish(ctx context.Context, in *order.WishlistItemInput) (*contract.Body[order.Wishlist], error) {
	if _, err := s.reachWishlist(ctx, s.db.WithContext(ctx), in.ID, identity.ManageWishlist, ""); err != nil {
		return nil, err // before anybody else is asked
	}
	known, err := product.LookupProducts.Call(ctx, s.mesh, &product.LookupInput{IDs: product.IDs{in.ProductID}})
	if err != nil {
		return nil, err
	}
	if len(known.Body) == 0 {
		return nil, fault.New(fault.Invalid, "unknown_product", "there is no product %s", in.ProductID)
	}
	return s.changeWishes(ctx, in.ID, func(tx *gorm.DB, now time.Time) error {
		var has int
		if err := tx.Raw("SELECT count(*) FROM wishlist_item WHERE wishlist_id = ? AND product_id <> ?", in.ID, in.ProductID).Scan(&has).Error; err != nil {
			return err
		}
		if has >= maxWishes {
			return fault.New(fault.Conflict, "wishlist_full", "there are %d products on it already", maxWishes)
		}
		return tx.Exec("INSERT INTO wishlist_item (wishlist_id, product_id, added_by, added_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			in.ID, in.ProductID, identity.From(ctx).UserID, now).Error
	})
}

// RemoveWish takes a product off a wish list, if it is on it. Returns NotFound, and Forbidden where the list is shared to be
// looked at.
func (s *Service) RemoveWish(ctx context.Context, in *order.WishlistItemInput) (*contract.Body[order.Wishlist], error) {
	return s.changeWishes(ctx, in.ID, func(tx *gorm.DB, _ time.Time) error {
		return tx.Exec("DELETE FROM wishlist_item WHERE wishlist_id = ? AND product_id = ?", in.ID, in.ProductID).Error
	})
}

// changeWishes does change to a wish list that is locked and that the caller may manage.
func (s *Service) changeWishes(ctx context.Context, id uuid.UUID, change func(tx *gorm.DB, now time.Time) error) (out *contract.Body[order.Wishlist], err error) {
	err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		r, err := s.reachWishlist(ctx, tx, id, identity.ManageWishlist, lockWishlist)
		if err != nil {
			return err
		}
		r.UpdatedAt = s.now()
		if err := change(tx, r.UpdatedAt); err != nil {
			return err
		}
		if err := postgres.Found(tx.Exec("UPDATE wishlist SET updated_at = ? WHERE id = ?", r.UpdatedAt, id), errNoWishlist); err != nil {
			return err
		}
		out, err = withWishes(tx, r)
		return err
	})
	return out, err
}

// ShareWishlist shares a wish list of the caller. It returns what ShareOrder does.
func (s *Service) ShareWishlist(ctx context.Context, in *order.ShareInput) (*contract.Body[order.Share], error) {
	return s.share(ctx, "wishlist", in, func(tx *gorm.DB) error {
		_, err := s.reachWishlist(ctx, tx, in.ID, identity.OwnWishlist, lockWishlist)
		return err
	})
}

// WishlistShares gives the shares of a wish list of the caller that have not ended. Returns NotFound.
func (s *Service) WishlistShares(ctx context.Context, in *order.ListSharesInput) (*contract.Body[contract.Page[order.Share]], error) {
	if _, err := s.reachWishlist(ctx, s.db.WithContext(ctx), in.ID, identity.OwnWishlist, ""); err != nil {
		return nil, err
	}
	return s.shares(ctx, "wishlist", in)
}

// UnshareWishlist ends a share of a wish list of the caller, if there is one. Returns NotFound for the list.
func (s *Service) UnshareWishlist(ctx context.Context, in *order.SharedWith) (*contract.None, error) {
	if _, err := s.reachWishlist(ctx, s.db.WithContext(ctx), in.ID, identity.OwnWishlist, ""); err != nil {
		return nil, err
	}
	return s.unshare(ctx, "wishlist", in)
}

const lockWishlist = " FOR NO KEY UPDATE OF wishlist"

// reachWishlist is reach for wish lists. No role looks at everybody's.
func (s *Service) reachWishlist(ctx context.Context, tx *gorm.DB, id uuid.UUID, perm identity.Permission, suffix string) (wishlistRow, error) {
	var r struct {
		Row  wishlistRow `gorm:"embedded"`
		Loan loan        `gorm:"embedded"`
	}
	me := identity.From(ctx).UserID
	err := postgres.Found(tx.Raw("SELECT "+wishlistColumns+", share.may AS share_may, share.expires_at AS share_until FROM wishlist"+lent("wishlist", "wishlist")+
		" WHERE wishlist.id = ? AND (user_id = ? OR share.object IS NOT NULL)"+suffix, me, s.now(), id, me).Scan(&r), errNoWishlist)
	if err != nil {
		return wishlistRow{}, err
	}
	on := policy.Resource{Kind: policy.Wishlist, ID: id.String(), Owner: r.Row.UserID, Share: r.Loan.share(me)}
	return r.Row, denied(ctx, perm, identity.ReadWishlist, on, errNoWishlist)
}

// withWishes is a wish list with what is on it, in the order in which it came there.
func withWishes(tx *gorm.DB, r wishlistRow) (*contract.Body[order.Wishlist], error) {
	items := []order.WishlistItem{}
	err := tx.Raw("SELECT product_id, added_by, added_at FROM wishlist_item WHERE wishlist_id = ? ORDER BY added_at, product_id", r.ID).Scan(&items).Error
	return &contract.Body[order.Wishlist]{Body: order.Wishlist{WishlistBrief: r.brief(), Items: items}}, err
}
