package contract

import "github.com/google/uuid"

// None is the input of a route that takes nothing, and the output of one that answers 204.
type None struct{}

// ByID is the input of a route about one thing.
type ByID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

// Body is an answer that is only a body.
type Body[T any] struct{ Body T }

// Created is the answer to making something: the thing and where it is from now on.
type Created[T any] struct {
	Location string `header:"Location"`
	Body     T
}

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

// Page is the body of every list. NextPageToken is empty on the last page.
type Page[T any] struct {
	Items         []T    `json:"items"`
	NextPageToken string `json:"next_page_token"`
}
