package user

import (
	"unicode/utf8"

	"souk/shared/contract/user"
	"souk/shared/fault"
	"souk/shared/twopc"

	"github.com/google/uuid"
)

const (
	maxPoints    = 1_000_000_000_000 // in one movement; nine million such do not fill an int64
	maxReference = 200
)

// earn credits points. Prepare only makes sure that there is an account, since nothing can take one away before the
// commit. A disabled account earns too: what it has bought is paid for.
func (s *Service) earn() twopc.Action {
	return twopc.NewAction(
		func(tx twopc.Tx, p user.Points) error {
			if err := check(p); err != nil {
				return err
			}
			_, err := findAccount(tx.DB, p.UserID)
			return err
		},
		func(tx twopc.Tx, p user.Points) error {
			if err := changePoints(tx.DB, p.UserID, p.Points, 0); err != nil {
				return err
			}
			return s.enter(tx, user.ActionEarn, p, p.Points)
		},
		func(twopc.Tx, user.Points) error { return nil },
	)
}

// spend takes points, if there are enough. A no has code insufficient_points, no_such_user or account_disabled.
func (s *Service) spend() twopc.Action {
	return twopc.NewAction(
		func(tx twopc.Tx, p user.Points) error {
			if err := check(p); err != nil {
				return err
			}
			a, err := findAccount(tx.DB, p.UserID)
			if err != nil {
				return err
			}
			if a.State != active {
				return fault.New(fault.Forbidden, "account_disabled", "the account is disabled")
			}
			held, err := holdPoints(tx.DB, p.UserID, p.Points, true)
			if err == nil && !held {
				return fault.New(fault.Conflict, "insufficient_points", "there are fewer than %d points", p.Points)
			}
			return err
		},
		s.take(user.ActionSpend), giveBack,
	)
}

// takeBack takes back what was earned with a purchase that is refunded, even where it was spent since. A no has code
// no_such_user.
func (s *Service) takeBack() twopc.Action {
	return twopc.NewAction(
		func(tx twopc.Tx, p user.Points) error {
			if err := check(p); err != nil {
				return err
			}
			held, err := holdPoints(tx.DB, p.UserID, p.Points, false)
			if err == nil && !held {
				return errNoUser
			}
			return err
		},
		s.take(user.ActionTakeBack), giveBack,
	)
}

// take lets held points go for good.
func (s *Service) take(kind string) func(twopc.Tx, user.Points) error {
	return func(tx twopc.Tx, p user.Points) error {
		if err := changePoints(tx.DB, p.UserID, 0, -p.Points); err != nil {
			return err
		}
		return s.enter(tx, kind, p, -p.Points)
	}
}

func giveBack(tx twopc.Tx, p user.Points) error {
	return changePoints(tx.DB, p.UserID, p.Points, -p.Points)
}

func (s *Service) enter(tx twopc.Tx, kind string, p user.Points, signed int64) error {
	return insertEntry(tx.DB, p.UserID, entry{
		ID: uuid.Must(uuid.NewV7()), GID: tx.GID, Kind: kind, Points: signed, Reference: p.Reference, CreatedAt: s.now(),
	})
}

// check keeps out what commit could not store.
func check(p user.Points) error {
	if p.Points < 1 || p.Points > maxPoints {
		return fault.New(fault.Invalid, "invalid_points", "points are from 1 to %d", int64(maxPoints))
	}
	if utf8.RuneCountInString(p.Reference) > maxReference || !printable(p.Reference) {
		return fault.New(fault.Invalid, "invalid_reference", "a reference is at most %d printable characters", maxReference)
	}
	return nil
}
