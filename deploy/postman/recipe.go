package main

import "net/http"

// recipe says how the collection asks one operation, so that it can say which answer must come. An operation without one
// is sent as its document describes it, and any answer that is documented and below 500 will do.
type recipe struct {
	operation string
	title     string            // in place of the summary, for the second request of an operation
	by        string            // whose token: customer, admin, or "" for nobody's
	path      map[string]string // values of the path's parameters
	query     string
	header    map[string]string
	body      string // in place of the documented example
	status    int    // of the answer; 0 is the documented success
	save      map[string]string
	expect    map[string]string // path in the answer → text; {{variables}} are filled in
	sign      bool              // it is a sign-in, which is limited: come back when told to
}

// recipes are in the order in which the requests are sent: each leaves what the next ones need.
func recipes() []recipe { //nolint:funlen // a table
	return []recipe{
		{
			operation: "register", body: `{"email": "postman-{{$guid}}@souk.example", "password": "correct horse battery", "display_name": "Postman"}`,
			save: map[string]string{"customer_email": "$.email", "customer_id": "$.id"}, expect: map[string]string{"$.disabled": "false"},
		},
		{
			operation: "login", body: `{"email": "{{customer_email}}", "password": "correct horse battery"}`, sign: true,
			save: map[string]string{"customer_token": "$.access_token", "customer_refresh": "$.refresh_token"},
		},
		{
			operation: "refresh", body: `{"refresh_token": "{{customer_refresh}}"}`,
			save: map[string]string{"customer_token": "$.access_token", "customer_refresh": "$.refresh_token"},
		},
		{
			operation: "login", title: "Sign in as an admin", body: `{"email": "{{admin_email}}", "password": "{{admin_password}}"}`, sign: true,
			save: map[string]string{"admin_token": "$.access_token"}, expect: map[string]string{"$.user.roles[0]": "admin"},
		},
		{operation: "get-keys", expect: map[string]string{"$.keys[0].alg": "ES256"}},
		{operation: "logout", body: `{"refresh_token": "{{customer_refresh}}"}`},
		{
			operation: "refresh", title: "A session that has ended gives no tokens", body: `{"refresh_token": "{{customer_refresh}}"}`,
			status: http.StatusUnauthorized, expect: map[string]string{"$.code": "invalid_refresh_token"},
		},
		{
			operation: "login", title: "Sign in again", body: `{"email": "{{customer_email}}", "password": "correct horse battery"}`, sign: true,
			save: map[string]string{"customer_token": "$.access_token", "customer_refresh": "$.refresh_token"},
		},

		{operation: "get-me", by: "customer", expect: map[string]string{"$.email": "{{customer_email}}"}},
		{operation: "update-me", by: "customer", body: `{"display_name": "Postman again"}`, expect: map[string]string{"$.display_name": "Postman again"}},
		{operation: "add-address", by: "customer", save: map[string]string{"address_id": "$.id"}},
		{operation: "list-addresses", by: "customer", query: "page_size=5", expect: map[string]string{"$.items[0].id": "{{address_id}}"}},
		{operation: "get-address", by: "customer", path: map[string]string{"id": "{{address_id}}"}, expect: map[string]string{"$.id": "{{address_id}}"}},
		{operation: "replace-address", by: "customer", path: map[string]string{"id": "{{address_id}}"}, expect: map[string]string{"$.id": "{{address_id}}"}},
		{operation: "remove-address", by: "customer", path: map[string]string{"id": "{{address_id}}"}},
		{operation: "get-address", title: "An address that was removed", by: "customer", path: map[string]string{"id": "{{address_id}}"}, status: http.StatusNotFound},
		{operation: "get-points", by: "customer", expect: map[string]string{"$.available": "0"}},
		{operation: "list-points", by: "customer", query: "page_size=5"},
		{operation: "list-users", by: "admin", query: "q={{customer_email}}", expect: map[string]string{"$.items[0].id": "{{customer_id}}"}},
		{operation: "list-users", title: "A customer sees no accounts", by: "customer", status: http.StatusForbidden, expect: map[string]string{"$.code": "forbidden"}},
		{operation: "get-user", by: "admin", path: map[string]string{"id": "{{customer_id}}"}, expect: map[string]string{"$.id": "{{customer_id}}"}},
		{operation: "set-user-roles", by: "admin", path: map[string]string{"id": "{{customer_id}}"}, body: `{"roles": ["customer"]}`},
		{operation: "disable-user", by: "admin", path: map[string]string{"id": "{{customer_id}}"}, expect: map[string]string{"$.disabled": "true"}},
		{operation: "enable-user", by: "admin", path: map[string]string{"id": "{{customer_id}}"}, expect: map[string]string{"$.disabled": "false"}},
		{
			operation: "set-user-attributes", by: "admin", path: map[string]string{"id": "{{customer_id}}"}, body: `{"location": "Basel", "clearance": 1}`,
			expect: map[string]string{"$.location": "Basel", "$.clearance": "1"},
		},
		{operation: "grant-role", by: "admin", path: map[string]string{"id": "{{customer_id}}", "role": "support"}, body: `{}`},
		{
			operation: "grant-role", title: "Who asks for refunds does not approve them", by: "admin", path: map[string]string{"id": "{{customer_id}}", "role": "finance"},
			body: `{}`, status: http.StatusForbidden, expect: map[string]string{"$.code": "conflicting_roles"},
		},
		{operation: "revoke-role", by: "admin", path: map[string]string{"id": "{{customer_id}}", "role": "support"}},
		{
			operation: "get-user-access", by: "admin", path: map[string]string{"id": "{{customer_id}}"},
			expect: map[string]string{"$.roles[0].role": "customer", "$.location": "Basel"},
		},
		{
			operation: "list-user-changes", title: "Who gives roles does not look whether it was right", by: "admin", path: map[string]string{"id": "{{customer_id}}"},
			status: http.StatusForbidden, expect: map[string]string{"$.code": "forbidden"},
		},
		{
			operation: "export-people", title: "Sensitive data is for data scientists", by: "admin",
			status: http.StatusForbidden, expect: map[string]string{"$.code": "forbidden"},
		},
		{
			operation: "login", title: "Sign in once more, with the roles of now", body: `{"email": "{{customer_email}}", "password": "correct horse battery"}`, sign: true,
			save: map[string]string{"customer_token": "$.access_token", "customer_refresh": "$.refresh_token"},
		},

		{operation: "end-other-sessions", by: "customer"},
		{
			operation: "set-password", title: "Who does not know the password does not change it", by: "customer",
			body:   `{"current_password": "not the current one", "password": "correct horse battery staple"}`,
			status: http.StatusUnauthorized, expect: map[string]string{"$.code": "invalid_credentials"},
		},

		{
			operation: "create-category", by: "admin", body: `{"slug": "postman-{{$timestamp}}-{{$randomInt}}", "name": "Shelf of Postman"}`,
			save: map[string]string{"category": "$.slug"},
		},
		{operation: "list-categories", query: "page_size=5"},
		{operation: "get-category", path: map[string]string{"slug": "{{category}}"}, expect: map[string]string{"$.slug": "{{category}}"}},

		{
			operation: "create-product", by: "admin",
			body: `{"sku": "POST-{{$timestamp}}-{{$randomInt}}", "name": "Stamp", "description": "Sticks", "category": "{{category}}", "price": {"amount": 1250, "currency": "USD"}}`,
			save: map[string]string{"product_id": "$.id"}, expect: map[string]string{"$.version": "1"},
		},
		{operation: "list-products", query: "category={{category}}&sort=price&page_size=5", expect: map[string]string{"$.items[0].id": "{{product_id}}"}},
		{operation: "get-product", path: map[string]string{"id": "{{product_id}}"}, expect: map[string]string{"$.available": "0"}},
		{
			operation: "update-product", by: "admin", path: map[string]string{"id": "{{product_id}}"}, header: map[string]string{"If-Match": `"1"`},
			body: `{"price": {"amount": 1200, "currency": "USD"}}`, expect: map[string]string{"$.version": "2", "$.price.amount": "1200"},
		},
		{
			operation: "update-product", title: "Not over somebody else's change", by: "admin", path: map[string]string{"id": "{{product_id}}"},
			header: map[string]string{"If-Match": `"1"`}, body: `{"price": {"amount": 1, "currency": "USD"}}`,
			status: http.StatusPreconditionFailed, expect: map[string]string{"$.code": "version_mismatch"},
		},
		{operation: "list-product-changes", by: "admin", path: map[string]string{"id": "{{product_id}}"}, expect: map[string]string{"$.items[0].version": "2"}},
		{
			operation: "adjust-stock", by: "admin", path: map[string]string{"id": "{{product_id}}"}, body: `{"delta": 5, "reason": "delivery"}`,
			save: map[string]string{"movement_id": "$.id"}, expect: map[string]string{"$.after.available": "5"},
		},
		{operation: "get-stock", by: "admin", path: map[string]string{"id": "{{product_id}}"}, expect: map[string]string{"$.available": "5", "$.held": "0", "$.sold": "0"}},
		{operation: "list-stock-movements", by: "admin", path: map[string]string{"id": "{{product_id}}"}, expect: map[string]string{"$.items[0].id": "{{movement_id}}"}},
		{
			operation: "get-stock-movement", by: "admin", path: map[string]string{"id": "{{product_id}}", "movement_id": "{{movement_id}}"},
			expect: map[string]string{"$.id": "{{movement_id}}"},
		},

		{operation: "get-wallet", by: "customer", path: map[string]string{"currency": "USD"}, expect: map[string]string{"$.available.amount": "0"}},
		{
			operation: "create-top-up", by: "customer", path: map[string]string{"currency": "USD"},
			body: `{"amount": {"amount": 10000, "currency": "USD"}, "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": "123"}}`,
			save: map[string]string{"top_up_id": "$.id"}, expect: map[string]string{"$.status": "succeeded"},
		},
		{operation: "list-wallets", by: "customer", expect: map[string]string{"$.items[0].available.amount": "10000"}},
		{operation: "list-wallet-entries", by: "customer", path: map[string]string{"currency": "USD"}, expect: map[string]string{"$.items[0].reference": "{{top_up_id}}"}},
		{operation: "list-top-ups", by: "customer", expect: map[string]string{"$.items[0].id": "{{top_up_id}}"}},
		{operation: "get-top-up", by: "customer", path: map[string]string{"id": "{{top_up_id}}"}, expect: map[string]string{"$.card_last4": "4242"}},

		{
			operation: "place-order", title: "An order to give up", by: "customer", body: `{"lines": [{"product_id": "{{product_id}}", "quantity": 1}]}`,
			save: map[string]string{"order_id": "$.id"},
		},
		{operation: "cancel-order", by: "customer", path: map[string]string{"id": "{{order_id}}"}, expect: map[string]string{"$.status": "cancelled"}},
		{
			operation: "place-order", by: "customer", body: `{"lines": [{"product_id": "{{product_id}}", "quantity": 2}], "note": "as a gift"}`,
			save: map[string]string{"order_id": "$.id"}, expect: map[string]string{"$.total.amount": "2400"},
		},
		{
			operation: "pay-order", by: "customer", path: map[string]string{"id": "{{order_id}}"}, save: map[string]string{"payment_id": "$.payment_id"},
			expect: map[string]string{"$.status": "paid"},
		},
		{operation: "list-orders", by: "customer", query: "status=paid", expect: map[string]string{"$.items[0].id": "{{order_id}}"}},
		{
			operation: "get-order", by: "customer", path: map[string]string{"id": "{{order_id}}"}, save: map[string]string{"transaction_id": "$.history[2].gid"},
			expect: map[string]string{"$.history[2].to": "paid"},
		},
		{operation: "ship-order", by: "admin", path: map[string]string{"id": "{{order_id}}"}, expect: map[string]string{"$.status": "shipped"}},
		{operation: "deliver-order", by: "admin", path: map[string]string{"id": "{{order_id}}"}, expect: map[string]string{"$.status": "delivered"}},
		{
			operation: "cancel-order", title: "A delivered order cannot be given up", by: "customer", path: map[string]string{"id": "{{order_id}}"},
			status: http.StatusConflict, expect: map[string]string{"$.code": "illegal_transition"},
		},

		{operation: "list-payments", by: "customer", query: "order_id={{order_id}}", expect: map[string]string{"$.items[0].id": "{{payment_id}}"}},
		{operation: "get-payment", by: "customer", path: map[string]string{"id": "{{payment_id}}"}, expect: map[string]string{"$.status": "captured"}},
		{
			operation: "void-payment", title: "A captured payment is not voided", by: "admin", path: map[string]string{"id": "{{payment_id}}"},
			status: http.StatusConflict, expect: map[string]string{"$.code": "already_captured"},
		},
		{
			operation: "refund-payment", by: "admin", path: map[string]string{"id": "{{payment_id}}"},
			body: `{"amount": {"amount": 400, "currency": "USD"}, "reason": "a scratch"}`,
			save: map[string]string{"refund_id": "$.id"}, expect: map[string]string{"$.status": "succeeded"},
		},
		{operation: "get-refund", by: "customer", path: map[string]string{"id": "{{payment_id}}", "refund_id": "{{refund_id}}"}, expect: map[string]string{"$.amount.amount": "400"}},

		{
			operation: "create-transfer", by: "customer", body: `{"points": 10, "currency": "USD"}`, save: map[string]string{"transfer_id": "$.id"},
			expect: map[string]string{"$.amount.amount": "10", "$.status": "succeeded"},
		},
		{operation: "get-transfer", by: "customer", path: map[string]string{"id": "{{transfer_id}}"}, expect: map[string]string{"$.points": "10"}},

		{
			operation: "receive-payment-webhook", title: "An event that the provider did not sign", status: http.StatusUnauthorized,
			header: map[string]string{"Souk-Signature": "t=1,v1=00", "Content-Type": "application/octet-stream"}, body: `{}`,
			expect: map[string]string{"$.code": "invalid_signature"},
		},

		{operation: "list-ledger-accounts", by: "admin", query: "kind=merchant&currency=USD"},
		{operation: "check-ledger", by: "admin", expect: map[string]string{"$.currencies[0].entries_sum": "0", "$.currencies[0].accounts_sum": "0"}},

		{operation: "list-transactions", by: "admin", query: "state=committed&page_size=5"},
		{operation: "transaction-statistics", by: "admin"},
		{operation: "get-transaction", by: "admin", path: map[string]string{"id": "{{transaction_id}}"}, expect: map[string]string{"$.state": "committed"}},
		{
			operation: "force-transaction", title: "What is committed is not called off", by: "admin", path: map[string]string{"id": "{{transaction_id}}"},
			body: `{"outcome": "aborted", "reason": "to see it refused"}`, status: http.StatusConflict, expect: map[string]string{"$.code": "already_committed"},
		},
		{
			operation: "force-transaction", by: "admin", path: map[string]string{"id": "{{$guid}}"}, body: `{"outcome": "aborted", "reason": "nobody has heard of it"}`,
			expect: map[string]string{"$.state": "aborted"},
		},
		{
			operation: "retry-transaction", title: "What every branch has carried out is not driven again", by: "admin", path: map[string]string{"id": "{{transaction_id}}"},
			status: http.StatusConflict, expect: map[string]string{"$.code": "already_completed"},
		},
		{
			operation: "acknowledge-transaction", title: "There is nothing to acknowledge", by: "admin", path: map[string]string{"id": "{{transaction_id}}"},
			body: `{"reason": "looked at it"}`, status: http.StatusConflict, expect: map[string]string{"$.code": "nothing_to_acknowledge"},
		},

		{operation: "archive-product", by: "admin", path: map[string]string{"id": "{{product_id}}"}, expect: map[string]string{"$.archived": "true"}},
	}
}
