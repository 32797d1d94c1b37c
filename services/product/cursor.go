package product

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/money"

	"github.com/google/uuid"
)

// cursor is the place of an item in a list: the values it is sorted by, of which each list uses its own. A page token
// is the cursor of the last item of a page.
type cursor struct {
	List     string         `json:"list"` // which list, in which order, with which filters: see listName
	At       time.Time      `json:"at,omitzero"`
	Name     string         `json:"name,omitempty"`
	Currency money.Currency `json:"currency,omitempty"`
	Amount   int64          `json:"amount,omitempty"`
	Rank     float64        `json:"rank,omitempty"`
	Seq      int64          `json:"seq,omitempty"`
	ID       uuid.UUID      `json:"id,omitzero"`
}

// listName is a short name for a list as it was asked for, so that a token is not used for another.
func listName(asked ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", asked))
	return hex.EncodeToString(sum[:8])
}

// after reads the page token of the list; nil on the first page. A token of another list, order or filter, or one that
// nobody gave, is Malformed, code invalid_page_token.
func after(p contract.Paging, list string) (*cursor, error) {
	c, err := contract.After[cursor](p)
	if err != nil || c == nil {
		return nil, err
	}
	// PostgreSQL cannot take a NUL, and a currency is one of ours or absent.
	if c.List != list || strings.ContainsRune(c.Name, 0) || (c.Currency != "" && !c.Currency.Valid()) {
		return nil, fault.New(fault.Malformed, "invalid_page_token", "page_token is not one that this list gave")
	}
	return c, nil
}
