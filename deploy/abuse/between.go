package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// between are attacks on what services say to each other: from outside, from beside them, and in their name.
func between() []attack {
	hidden := func(path string) attack {
		return meets("a way in that is not for outsiders: "+path, func(s *scene) request { return request{method: "GET", path: path, token: s.admin.token} }, 404)
	}
	return append(insiders(), []attack{
		hidden("/internal/v1/orders/" + uuid.NewString()),
		hidden("/internal/v1/transactions"),
		hidden("/api/internal/v1/letterbox"),
		hidden("/metrics"),
		hidden("/debug/pprof/"),
		hidden("/mesh/snapshot"),

		webhook("a payment event without a signature", func(string, time.Time) string { return "" }),
		webhook("a payment event signed with a secret of one's own", func(body string, at time.Time) string { return signed("a guess", body, at) }),
		webhook("a payment event signed with an empty secret", func(body string, at time.Time) string { return signed("", body, at) }),
		webhook("a payment event with a signature of nothing", func(_ string, at time.Time) string { return fmt.Sprintf("t=%d,v1=", at.Unix()) }),
		webhook("a payment event signed an hour ago with a guess", func(body string, at time.Time) string { return signed("a guess", body, at.Add(-time.Hour)) }),
	}...)
}

// webhook tells that the victim's top-up has succeeded.
func webhook(name string, sign func(body string, at time.Time) string) attack {
	return attack{name, func(ctx context.Context, s *scene) outcome {
		body := `{"id":"` + uuid.NewString() + `","type":"charge.succeeded","reference":"` + s.topUp + `","amount":{"amount":5000000,"currency":"USD"}}`
		header := []string{}
		if signature := sign(body, time.Now()); signature != "" {
			header = append(header, "Souk-Signature: "+signature)
		}
		r := request{method: "POST", path: "/api/v1/webhooks/payments", body: body, header: header}
		a := s.send(ctx, r)
		return outcome{r.String(), a.String(), a.status == http.StatusUnauthorized}
	}}
}

func signed(secret, body string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}
