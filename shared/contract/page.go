package contract

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"souk/shared/fault"
)

// Paging is embedded in the input of every list.
type Paging struct {
	Size  int    `query:"page_size" doc:"How many items at most; 20 when absent, and never more than 100"`
	Token string `query:"page_token" doc:"next_page_token of the page before"`
}

// The bounds of a page.
const (
	defaultPage = 20
	maxPage     = 100
)

// Limit is the number of items to give: Size brought between 1 and 100, 20 when none was asked for.
func (p Paging) Limit() int {
	if p.Size <= 0 {
		return defaultPage
	}
	return min(p.Size, maxPage)
}

// After is the cursor that the page starts after which p asks for; nil for the first page. A token that was not made of a
// cursor of type C is Malformed, code invalid_page_token.
func After[C any](p Paging) (*C, error) {
	if p.Token == "" {
		return nil, nil
	}
	after := new(C)
	b, err := base64.RawURLEncoding.DecodeString(p.Token)
	b, ours := bytes.CutPrefix(b, kind(*after))
	if err == nil && ours {
		err = json.Unmarshal(b, after)
	}
	if err != nil || !ours {
		return nil, fault.New(fault.Malformed, "invalid_page_token", "page_token is not one that this list gave").Because(err)
	}
	return after, nil
}

// Page is the body of every list. NextPageToken is empty on the last page.
type Page[T any] struct {
	Items         []T    `json:"items"`
	NextPageToken string `json:"next_page_token" example:""`
}

// PageOf is the answer to a list: at most limit of rows, each as item shows it. Who lists reads one row more than limit:
// where there is one, there is a next page. It starts after the last row shown, whose cursor, a struct of the values that
// the list is sorted by, makes the token.
func PageOf[Row, Item any](rows []Row, limit int, item func(Row) Item, cursor func(Row) any) (*Body[Page[Item]], error) {
	out := new(Body[Page[Item]])
	if len(rows) > limit {
		rows = rows[:limit]
		var err error
		if out.Body.NextPageToken, err = pageToken(cursor(rows[limit-1])); err != nil {
			return nil, fmt.Errorf("make page token: %w", err)
		}
	}
	out.Body.Items = make([]Item, len(rows))
	for i, r := range rows {
		out.Body.Items[i] = item(r)
	}
	return out, nil
}

func pageToken(cursor any) (string, error) {
	b, err := json.Marshal(cursor)
	return base64.RawURLEncoding.EncodeToString(append(kind(cursor), b...)), err
}

// kind begins a token with the name of the cursor's type: lists with types of their own take no token of another.
func kind(cursor any) []byte { return fmt.Appendf(nil, "%T:", cursor) }
