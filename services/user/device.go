package user

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"souk/shared/contract"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

const (
	deviceLen   = 100
	network4    = 24 // bits of an IPv4 address that are kept: where somebody is, and not which device there
	network6    = 48
	unknownWhat = "an unknown device"
)

// deviceOf makes of a User-Agent what its owner recognises in a list of sessions. Anybody can claim to be any device.
func deviceOf(agent string) string {
	find := func(names ...string) string { // pairs: what is in the agent, and what we call it; the first one wins
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	browser := find("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := find("Android", "Android", "iPhone", "an iPhone", "iPad", "an iPad", "Windows", "Windows", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	case browser != "":
		return browser
	}
	first, _, _ := strings.Cut(normal(agent), " ")
	if first == "" || !printable(first) || utf8.RuneCountInString(first) > deviceLen {
		return unknownWhat
	}
	return first
}

// networkOf is the network that the request of ctx came from; empty where that is not known.
func networkOf(ctx context.Context) string {
	addr := contract.ClientFrom(ctx)
	bits := network4
	if addr.Is6() {
		bits = network6
	}
	p, err := addr.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.String()
}

// deviceCookie names the browser that somebody has signed in with. It opens nothing: by it a browser keeps its own count of
// tries at a password (throttle.go).
const (
	deviceCookie = "__Host-souk-device"
	deviceLife   = 365 * 24 * time.Hour
)

// knownDevice is what the browser that shows cookie is counted by, if it has signed in to email's account before; else nil.
func (s *Service) knownDevice(ctx context.Context, cookie, email string) ([]byte, error) {
	if cookie == "" {
		return nil, nil
	}
	var rows [][]byte
	err := s.db.WithContext(ctx).Raw("SELECT d.digest FROM device d JOIN account a ON a.id = d.user_id WHERE d.digest = ? AND a.email_index = ?",
		digest(cookie), s.sealed.byEmail.Of(email)).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0], nil
}

// rememberDevice notes that the browser which shows cookie has signed in to the account, and gives the Set-Cookie header
// where it has to be given one: the empty string where it has.
func rememberDevice(tx *gorm.DB, cookie string, id uuid.UUID, now time.Time) (setCookie string, err error) {
	var known int
	if cookie != "" {
		if err := tx.Raw("SELECT count(*) FROM device WHERE digest = ?", digest(cookie)).Scan(&known).Error; err != nil {
			return "", err
		}
	}
	if known == 0 { // one that we have not given could be anybody's, and known to anybody
		cookie = randomText()
		setCookie = (&http.Cookie{
			Name: deviceCookie, Value: cookie, Path: "/", MaxAge: int(deviceLife.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		}).String()
	}
	return setCookie, tx.Exec("INSERT INTO device (digest, user_id, used_at) VALUES (?, ?, ?) ON CONFLICT (digest, user_id) DO UPDATE SET used_at = excluded.used_at",
		digest(cookie), id, now).Error
}

// randomText is 256 random bits.
func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b)
}
