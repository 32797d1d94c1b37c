package contract

import (
	"encoding/base64"
	"encoding/json"

	"souk/shared/fault"
)

// PageToken makes the opaque token of the page that starts after cursor, a struct of the last item's sort values.
func PageToken(cursor any) (string, error) {
	b, err := json.Marshal(cursor)
	return base64.RawURLEncoding.EncodeToString(b), err
}

// Cursor reads the page token into cursor, a pointer, and reports whether there was one. A token that PageToken did not
// make for this list is Malformed, code invalid_page_token.
func (p Paging) Cursor(cursor any) (bool, error) {
	if p.Token == "" {
		return false, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Token)
	if err == nil {
		err = json.Unmarshal(b, cursor)
	}
	if err != nil {
		return false, fault.New(fault.Malformed, "invalid_page_token", "page_token is not one that this list gave").Because(err)
	}
	return true, nil
}
