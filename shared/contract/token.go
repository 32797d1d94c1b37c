package contract

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"souk/shared/fault"
)

// PageToken makes the opaque token of the page that starts after cursor, a struct of the last item's sort values. A list
// has a cursor type of its own: its name is in the token, so that no list takes another's.
func PageToken(cursor any) (string, error) {
	b, err := json.Marshal(cursor)
	return base64.RawURLEncoding.EncodeToString(append(kind(cursor), b...)), err
}

// Cursor reads the page token into cursor, a pointer, and reports whether there was one. A token that PageToken did not
// make of the same type is Malformed, code invalid_page_token.
func (p Paging) Cursor(cursor any) (bool, error) {
	if p.Token == "" {
		return false, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Token)
	b, ours := bytes.CutPrefix(b, kind(cursor))
	if err == nil && ours {
		err = json.Unmarshal(b, cursor)
	}
	if err != nil || !ours {
		return false, fault.New(fault.Malformed, "invalid_page_token", "page_token is not one that this list gave").Because(err)
	}
	return true, nil
}

func kind(cursor any) []byte {
	return []byte(strings.TrimPrefix(fmt.Sprintf("%T:", cursor), "*"))
}
