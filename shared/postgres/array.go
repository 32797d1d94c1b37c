package postgres

import (
	"fmt"
	"strings"
)

// Array is ids as the text of an array, for CAST(? AS uuid[]). Rows are looked up by one and not by a list made of JSON, whose
// length the planner cannot know: it would guess a hundred, and read the whole of a table that is small instead of its index,
// by a plan that the connection keeps when the table has grown. T's text must need no quotes, as that of a uuid.UUID.
func Array[T fmt.Stringer](ids []T) string {
	text := make([]string, len(ids))
	for i, id := range ids {
		text[i] = id.String()
	}
	return "{" + strings.Join(text, ",") + "}"
}
