package user

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math"
	"net/netip"
	"slices"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/postgres"

	"gorm.io/gorm"
)

// Tries at passwords are counted in buckets, in the database, so that all instances count together: for an account from a
// network, for a network, and for an account. Each has room for some tries, which drain out of it one by one; beyond that
// each further try makes the next one wait, for 1 s, 2 s, 4 s and so on up to a minute. Nobody is ever locked out, and whose
// account a stranger tries signs in from a browser that has signed in before as if nothing were: such a browser has a cookie,
// and by it a bucket of its own, which nobody else can fill.
//
// A try is counted before the password is looked at, or many at once would all be the first; and one that was right is
// taken back. An account that does not exist is counted like any other, so being slowed down tells nothing.
//
// Registrations that find an address taken are counted by network, so that nobody asks through a list of addresses.
type allowance struct {
	room  float64       // tries before anybody waits
	drain time.Duration // in which one is forgotten
}

var (
	pairAllowance    = allowance{20, time.Minute}      //nolint:gochecknoglobals // never changes: somebody who does not remember
	networkAllowance = allowance{50, 10 * time.Second} //nolint:gochecknoglobals // never changes: many people behind one address
	accountAllowance = allowance{100, time.Minute}     //nolint:gochecknoglobals // never changes: NIST SP 800-63B allows a hundred in a row
)

// longestCount is when the last try has drained out of a bucket that was as full as it can get in a day of trying once a
// minute: nothing is lost with a row that old.
const longestCount = 25 * time.Hour

// longestDelay is the longest that a try has to wait for the one before it.
const longestDelay = time.Minute

// bucket is one that a try is counted in.
type bucket struct {
	key  postgres.Bytea
	of   allowance
	sole bool // only whoever knows the password can be right here, so being right empties it
}

func newBucket(kind, what string, of allowance, sole bool) bucket {
	sum := sha256.Sum256([]byte(kind + "|" + what))
	return bucket{sum[:], of, sole}
}

// bucketsOf are those of a try at email's password from where ctx comes from, or of the known device alone.
func (s *Service) bucketsOf(ctx context.Context, email string, known []byte) []bucket {
	if known != nil {
		return []bucket{newBucket("device", string(known), pairAllowance, true)}
	}
	buckets := []bucket{newBucket("account", email, accountAllowance, false)}
	if from := throttled(contract.ClientFrom(ctx)); from.IsValid() && !s.oneNetwork {
		buckets = append(buckets, newBucket("network", from.String(), networkAllowance, false), newBucket("pair", email+"|"+from.String(), pairAllowance, true))
	}
	return buckets
}

// asksOf are those of a registration.
func (s *Service) asksOf(ctx context.Context) []bucket {
	from := throttled(contract.ClientFrom(ctx))
	if !from.IsValid() || s.oneNetwork {
		return nil
	}
	return []bucket{newBucket("register", from.String(), networkAllowance, false)}
}

// throttled is whom a limit by address is for: of IPv6 the /64, because one customer has at least so many addresses.
func throttled(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Prefix for no address
	return p
}

// level is a row of login_bucket.
type level struct {
	Key          []byte
	Level        float64
	At           time.Time
	BlockedUntil time.Time
}

// drained is l as of now.
func (l level) drained(of allowance, now time.Time) level {
	l.Level = math.Max(0, l.Level-now.Sub(l.At).Seconds()/of.drain.Seconds())
	l.At = now
	return l
}

// delay is how long the next try has to wait after one that made the level what it is.
func (l level) delay(of allowance) time.Duration {
	over := math.Ceil(l.Level - of.room) // some of a try may have drained while it waited
	if over <= 0 {
		return 0
	}
	return min(longestDelay, time.Duration(math.Exp2(math.Min(over, 10)-1)*float64(time.Second)))
}

// try counts a try in all buckets, or in none and says how long to wait.
func (s *Service) try(ctx context.Context, buckets []bucket) (wait time.Duration, err error) {
	err = s.inBuckets(ctx, buckets, true, func(b bucket, l *level, now time.Time) bool {
		if wait = max(wait, l.BlockedUntil.Sub(now)); wait > 0 {
			return false
		}
		l.Level++
		l.BlockedUntil = now.Add(l.delay(b.of))
		return true
	})
	return wait, err
}

// succeed takes a try back that was right.
func (s *Service) succeed(ctx context.Context, buckets []bucket) error {
	return s.inBuckets(ctx, buckets, false, func(b bucket, l *level, now time.Time) bool {
		if l.Level = math.Max(0, l.Level-1); b.sole {
			l.Level = 0
		}
		if l.Level <= b.of.room {
			l.BlockedUntil = now
		}
		return true
	})
}

// inBuckets changes the levels of buckets, each as of now, in one transaction; nothing changes if change says no to any.
func (s *Service) inBuckets(ctx context.Context, buckets []bucket, missing bool, change func(bucket, *level, time.Time) bool) error {
	if len(buckets) == 0 {
		return nil
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return bytes.Compare(a.key, b.key) }) // locked in one order
	keys := make([]postgres.Bytea, len(buckets))
	for i, b := range buckets {
		keys[i] = b.key
	}
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		now := s.now()
		if missing {
			for _, k := range keys {
				if err := tx.Exec("INSERT INTO login_bucket (key, level, at, blocked_until) VALUES (?, 0, ?, ?) ON CONFLICT DO NOTHING", k, now, now).Error; err != nil {
					return err
				}
			}
		}
		var rows []level
		if err := tx.Raw("SELECT key, level, at, blocked_until FROM login_bucket WHERE key IN ? ORDER BY key FOR UPDATE", keys).Scan(&rows).Error; err != nil {
			return err
		}
		for i := range rows {
			at := slices.IndexFunc(buckets, func(b bucket) bool { return bytes.Equal(b.key, rows[i].Key) })
			rows[i] = rows[i].drained(buckets[at].of, now)
			if !change(buckets[at], &rows[i], now) {
				return nil
			}
		}
		for _, r := range rows {
			err := tx.Exec("UPDATE login_bucket SET level = ?, at = ?, blocked_until = ? WHERE key = ?", r.Level, r.At, r.BlockedUntil, postgres.Bytea(r.Key)).Error
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// throttle counts a try in buckets. Exhausted, code too_many_tries, says that it comes too soon.
func (s *Service) throttle(ctx context.Context, buckets []bucket) error {
	wait, err := s.try(ctx, buckets)
	if err == nil && wait > 0 {
		s.seen.slowed.Inc()
		err = fault.New(fault.Exhausted, "too_many_tries", "too many tries; come back in %d s", int(math.Ceil(wait.Seconds()))).After(wait)
	}
	return err
}
