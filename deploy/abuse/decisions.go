package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// decisions are attacks on what somebody may do: other people's things, and other people's work.
func decisions() []attack {
	// of asks, as the thief, for something that is not theirs: it must look as if it were not there.
	of := func(name, method string, path func(*scene) string, body string) attack {
		return meets(name, func(s *scene) request {
			return request{method: method, path: path(s), token: s.thief.token, body: body}
		}, 404)
	}
	// beyond asks, as a customer, for what only others may.
	beyond := func(name, method string, path func(*scene) string, body string) attack {
		return meets(name, func(s *scene) request {
			return request{method: method, path: path(s), token: s.thief.token, body: body}
		}, 403)
	}
	at := func(format string, what func(*scene) string) func(*scene) string {
		return func(s *scene) string { return fmt.Sprintf(format, what(s)) }
	}
	plain := func(path string) func(*scene) string { return func(*scene) string { return path } }
	order := func(s *scene) string { return s.order }
	unpaid := func(s *scene) string { return s.unpaid }
	paymentOf := func(s *scene) string { return s.payment }
	product := func(s *scene) string { return s.product }
	victim := func(s *scene) string { return s.victim.id }
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)

	return []attack{
		of("another's order read", "GET", at("/api/v1/orders/%s", order), ""),
		of("another's order paid", "POST", at("/api/v1/orders/%s/pay", unpaid), ""),
		of("another's order cancelled", "POST", at("/api/v1/orders/%s/cancel", unpaid), ""),
		{"another's order shared with oneself", func(ctx context.Context, s *scene) outcome {
			r := request{method: "PUT", path: "/api/v1/orders/" + s.order + "/shares/" + s.thief.id, token: s.thief.token, body: `{"may":"manage","expires_at":"` + soon + `"}`}
			a := s.send(ctx, r)
			return outcome{r.String(), a.String(), a.status == http.StatusNotFound || a.status == http.StatusForbidden}
		}},
		of("who another's order is shared with", "GET", at("/api/v1/orders/%s/shares", order), ""),
		of("another's payment read", "GET", at("/api/v1/payments/%s", paymentOf), ""),
		of("another's top-up read", "GET", at("/api/v1/top-ups/%s", func(s *scene) string { return s.topUp }), ""),
		of("another's address read", "GET", at("/api/v1/users/me/addresses/%s", func(s *scene) string { return s.address }), ""),
		of("another's address changed", "PUT", at("/api/v1/users/me/addresses/%s", func(s *scene) string { return s.address }),
			`{"label":"x","recipient":"x","line1":"x","city":"x","country":"CH"}`),
		of("another's address removed", "DELETE", at("/api/v1/users/me/addresses/%s", func(s *scene) string { return s.address }), ""),
		{"all orders listed as another's", func(ctx context.Context, s *scene) outcome {
			r := request{method: "GET", path: "/api/v1/orders?user_id=" + s.victim.id, token: s.thief.token}
			var list struct{ Items []any }
			err := s.as(s.thief).get(ctx, "/api/v1/orders?user_id="+s.victim.id, &list)
			return outcome{r.String(), fmt.Sprintf("%d orders", len(list.Items)), err == nil && len(list.Items) == 0}
		}},
		beyond("the list of all people, by a customer", "GET", plain("/api/v1/users"), ""),
		beyond("one person's account, by a customer", "GET", at("/api/v1/users/%s", victim), ""),
		beyond("an account disabled by a customer", "POST", at("/api/v1/users/%s/disable", victim), ""),
		beyond("the export of people, by a customer", "GET", plain("/api/v1/users/export"), ""),
		meets("the export of people, by an admin whose account clears nobody", func(s *scene) request {
			return request{method: "GET", path: "/api/v1/users/export", token: s.admin.token}
		}, 403),
		meets("the same, with a place and a clearance in headers", func(s *scene) request {
			return request{method: "GET", path: "/api/v1/users/export", token: s.admin.token, header: []string{"X-Location: HQ", "X-Clearance: 9", "X-User-Role: data_scientist"}}
		}, 403),
		beyond("the report of what customers buy, by a customer", "GET", plain("/api/v1/orders/reports/customers"), ""),
		beyond("a role granted to oneself by a customer", "PUT", func(s *scene) string { return "/api/v1/users/" + s.thief.id + "/roles" }, `{"roles":["admin"]}`),
		meets("a role granted to oneself by an admin", func(s *scene) request {
			return request{method: "PUT", path: "/api/v1/users/" + s.admin.id + "/roles", token: s.admin.token, body: `{"roles":["admin","data_scientist"]}`}
		}, 403, 409, 422),
		meets("a clearance given to oneself by an admin", func(s *scene) request {
			return request{method: "PUT", path: "/api/v1/users/" + s.admin.id + "/attributes", token: s.admin.token, body: `{"location":"HQ","clearance":3}`}
		}, 403, 409, 422),
		meets("two roles that conflict, for one person", func(s *scene) request {
			return request{method: "PUT", path: "/api/v1/users/" + s.thief.id + "/roles", token: s.admin.token, body: `{"roles":["admin","auditor"]}`}
		}, 403, 409, 422),
		beyond("a refund made by a customer", "POST", at("/api/v1/payments/%s/refunds", paymentOf), `{"reason":"mine"}`),
		beyond("a payment voided by a customer", "POST", at("/api/v1/payments/%s/void", paymentOf), ""),
		beyond("an order shipped by a customer", "POST", at("/api/v1/orders/%s/ship", order), ""),
		beyond("stock changed by a customer", "POST", at("/api/v1/products/%s/stock/adjustments", product), `{"delta":1000,"reason":"mine"}`),
		beyond("a price changed by a customer", "PATCH", at("/api/v1/products/%s", product), `{"price":{"amount":1,"currency":"USD"}}`),
		beyond("the ledger read by a customer", "GET", plain("/api/v1/ledger/accounts"), ""),
		beyond("transactions in doubt, read by a customer", "GET", plain("/api/v1/transactions"), ""),
		beyond("the page of operations watched by a customer", "GET", plain("/ops/stream"), ""),
		meets("an order at a price of one's own", func(s *scene) request {
			return request{method: "POST", path: "/api/v1/orders", token: s.thief.token, body: `{"lines":[{"product_id":"` + s.product + `","quantity":1,"unit_price":{"amount":1,"currency":"USD"}}]}`}
		}, 422),
		meets("an order of minus one piece", func(s *scene) request {
			return request{method: "POST", path: "/api/v1/orders", token: s.thief.token, body: `{"lines":[{"product_id":"` + s.product + `","quantity":-1}]}`}
		}, 422),
		meets("an order in another's name", func(s *scene) request {
			return request{method: "POST", path: "/api/v1/orders", token: s.thief.token, body: `{"user_id":"` + s.victim.id + `","lines":[{"product_id":"` + s.product + `","quantity":1}]}`}
		}, 422),
		meets("a top-up of a negative amount", func(s *scene) request {
			return request{method: "POST", path: "/api/v1/wallets/USD/top-ups", token: s.thief.token, body: `{"amount":{"amount":-100,"currency":"USD"},"card":{"number":"4242424242424242","exp_month":12,"exp_year":2040,"cvc":"123"}}`}
		}, 422),
		meets("the next page of a list that is another kind's", func(s *scene) request {
			return request{method: "GET", path: "/api/v1/orders?page_token=eyJpZCI6MX0", token: s.thief.token}
		}, 400),
		{"an id that is guessed, fifty times", func(ctx context.Context, s *scene) outcome {
			found, last := 0, answer{}
			for range 50 {
				if last = s.send(ctx, request{method: "GET", path: "/api/v1/orders/" + uuid.NewString(), token: s.thief.token}); last.status != http.StatusNotFound {
					found++
				}
			}
			return outcome{"GET /api/v1/orders/{random}", fmt.Sprintf("%d found, the last %s", found, last), found == 0}
		}},
		{"two orders told apart: another's, and one that is not there", func(ctx context.Context, s *scene) outcome {
			a := s.send(ctx, request{method: "GET", path: "/api/v1/orders/" + s.order, token: s.thief.token})
			b := s.send(ctx, request{method: "GET", path: "/api/v1/orders/" + uuid.NewString(), token: s.thief.token})
			same := a.status == b.status && a.field("code") == b.field("code") && a.field("detail") == b.field("detail")
			return outcome{"GET /api/v1/orders/{another's} and {none}", a.String() + " and " + b.String(), same}
		}},
	}
}
