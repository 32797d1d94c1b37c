package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// edge are attacks on the gateway itself: paths, headers, sizes, time, and browsers made to help.
func edge() []attack {
	path := func(name, p string, statuses ...int) attack {
		return meets(name, func(s *scene) request { return request{method: "GET", path: p, token: s.thief.token} }, statuses...)
	}
	pretend := func(name string, statuses []int, header ...string) attack {
		return meets(name, func(s *scene) request {
			return request{method: "GET", path: "/api/v1/users", token: s.thief.token, header: header}
		}, statuses...)
	}
	upload := func(name, body string, statuses ...int) attack {
		return attack{name, func(ctx context.Context, s *scene) outcome {
			a := s.send(ctx, request{method: "POST", path: "/api/v1/orders", token: s.thief.token, body: body})
			return outcome{fmt.Sprintf("%d bytes", len(body)), fmt.Sprintf("%s in %.1f s", a, a.took.Seconds()), slices.Contains(statuses, a.status) && a.took < 5*time.Second}
		}}
	}
	cross := func(name, method, path string, header ...string) attack {
		return meets(name, func(s *scene) request {
			return request{method: method, path: path, token: s.victim.token, header: header, body: "{}"}
		}, 403)
	}
	return []attack{
		path("an encoded slash (%2f)", "/api/v1/orders%2f..%2f..%2finternal", 400),
		path("an encoded slash in capitals (%2F)", "/api/v1%2Fusers", 400),
		path("a backslash (%5c)", "/api/v1/orders%5c..%5cusers", 400),
		path("two slashes", "/api/v1//users", 400),
		path("two slashes to begin with", "//internal/v1/orders/1", 400, 404),
		path("dots (..)", "/api/v1/orders/../users", 400),
		path("encoded dots (%2e%2e)", "/api/v1/orders/%2e%2e/users", 400),
		path("one dot (/./)", "/api/v1/./users", 400),
		path("a semicolon (..;)", "/api/v1/orders/..;/users", 400),
		path("a NUL (%00)", "/api/v1/orders/%00", 400),
		path("a line break (%0d%0a)", "/api/v1/orders/%0d%0aX-Role:%20admin", 400),
		path("an escape encoded twice (%252f)", "/api/v1/orders/%252e%252e%252finternal", 400),
		path("a broken escape (%zz)", "/api/v1/orders/%zz", 400),
		path("another case (/API/V1)", "/API/V1/users", 404),
		path("a trailing slash", "/api/v1/users/", 400, 403, 404),
		path("a URL of 20 KiB", "/api/v1/orders?q="+strings.Repeat("a", 20<<10), 414),

		pretend("to be the admin (X-User-Id, X-Role)", []int{403}, "X-User-Id: 01920000-0000-7000-8000-000000000001", "X-User-Roles: admin", "X-Role: admin", "X-Roles: admin"),
		pretend("to be a service (X-Internal-*)", []int{403}, "X-Internal-Call: payment", "X-Internal-Service: payment"),
		pretend("to ask for another path (X-Original-URL)", []int{403}, "X-Original-URL: /api/v1/users/me", "X-Rewrite-URL: /api/v1/users/me"),
		pretend("to use another method (X-HTTP-Method-Override)", []int{403}, "X-HTTP-Method-Override: OPTIONS", "X-Method-Override: OPTIONS"),
		pretend("to have our headers removed (Connection: …)", []int{401, 403}, "Connection: X-Request-Id, X-Forwarded-For, X-Mesh-Attempt, Authorization"),
		{"to come from elsewhere (X-Forwarded-For, Forwarded)", func(ctx context.Context, s *scene) outcome {
			const claimed = "203.0.113.77"
			r := request{method: "GET", path: "/api/v1/users/me", token: s.thief.token, header: []string{"X-Forwarded-For: " + claimed, "Forwarded: for=" + claimed, "X-Real-IP: " + claimed, "True-Client-IP: " + claimed}}
			a := s.send(ctx, r)
			logs, err := s.logs()
			return outcome{r.String(), fmt.Sprintf("%s, and no log believes it: %v", a, !strings.Contains(logs, claimed)), err == nil && a.status == http.StatusOK && !strings.Contains(logs, claimed)}
		}},
		{"another host (Host, X-Forwarded-Host), to be reflected", func(ctx context.Context, s *scene) outcome {
			r := registration(`"x":1`)
			r.body = `{"email":"` + uuid.NewString() + `@souk.example","password":"` + uuid.NewString() + `","display_name":"X"}`
			r.header = []string{"Host: evil.example", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: gopher"}
			a := s.send(ctx, r)
			reflected := strings.Contains(string(a.body)+fmt.Sprint(a.header), "evil.example")
			return outcome{r.method + " " + r.path + " to evil.example", fmt.Sprintf("%s, reflected: %v", a, reflected), a.status != 0 && !reflected}
		}},
		{"a request id that breaks the log's lines", func(ctx context.Context, s *scene) outcome {
			const id = `x","level":"ERROR","msg":"forged`
			r := request{method: "GET", path: "/api/v1/products", header: []string{"X-Request-Id: " + id}}
			a := s.send(ctx, r)
			logs, err := s.logs()
			return outcome{r.String(), a.String(), err == nil && a.status == http.StatusOK && !strings.Contains(logs, "forged") && a.header.Get("X-Request-Id") != id}
		}},
		{"two lengths for one body (request smuggling)", func(ctx context.Context, s *scene) outcome {
			a := raw(ctx, gatewayOf(s), "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 44\r\n\r\n{}\r\nGET /api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n")
			return outcome{"Content-Length: 4 and 44", a.String(), a.status == http.StatusBadRequest}
		}},
		{"a length and chunks (request smuggling)", smuggle},
		{"an unknown transfer coding", func(ctx context.Context, s *scene) outcome {
			a := raw(ctx, gatewayOf(s), "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")
			return outcome{"Transfer-Encoding: xchunked", a.String(), a.status == http.StatusNotImplemented || a.status == http.StatusBadRequest}
		}},
		{"an upgrade to HTTP/2 in the clear (h2c)", func(ctx context.Context, s *scene) outcome {
			a := raw(ctx, gatewayOf(s), "GET /api/v1/products HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n")
			return outcome{"Upgrade: h2c", a.String(), a.status != 0 && a.status != http.StatusSwitchingProtocols}
		}},
		{"headers echoed by TRACE", func(ctx context.Context, s *scene) outcome {
			a := s.send(ctx, request{method: "TRACE", path: "/api/v1/orders", token: s.thief.token})
			return outcome{"TRACE /api/v1/orders", a.String(), a.status >= 400 && !strings.Contains(string(a.body), "Bearer")}
		}},
		{"a tunnel (CONNECT)", func(ctx context.Context, s *scene) outcome {
			a := raw(ctx, gatewayOf(s), "CONNECT 127.0.0.1:5432 HTTP/1.1\r\nHost: 127.0.0.1:5432\r\n\r\n")
			return outcome{"CONNECT 127.0.0.1:5432", a.String(), a.status >= 400}
		}},
		{"another server by a whole URL", func(ctx context.Context, s *scene) outcome {
			a := raw(ctx, gatewayOf(s), "GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n")
			return outcome{"GET http://169.254.169.254/latest/meta-data", a.String(), a.status == http.StatusNotFound}
		}},
		meets("headers of 200 KiB", func(*scene) request {
			return request{method: "GET", path: "/api/v1/products", header: []string{"X-Long: " + strings.Repeat("a", 200<<10)}}
		}, 431),

		upload("a body of 3 MiB", `{"note":"`+strings.Repeat("a", 3<<20)+`"}`, 413),
		upload("JSON half a million deep", strings.Repeat("[", 500_000), 400, 422),
		upload("objects fifty thousand deep", strings.Repeat(`{"a":`, 50_000)+"1"+strings.Repeat("}", 50_000), 400, 422),
		upload("a number with a million digits", `{"lines":[{"product_id":"x","quantity":`+strings.Repeat("9", 900_000)+`}]}`, 400, 422),
		upload("an order of fifty thousand lines", `{"lines":[`+strings.TrimSuffix(strings.Repeat(`{"quantity":1},`, 50_000), ",")+`]}`, 422),
		upload("a body that is no UTF-8", "{\"note\":\"\xff\xfe\"}", 400, 422),
		upload("two bodies in one", `{"lines":[]}{"lines":[]}`, 400, 422),
		meets("a compressed bomb", func(s *scene) request {
			return request{method: "POST", path: "/api/v1/orders", token: s.thief.token, body: "\x1f\x8b\x08\x00" + strings.Repeat("\x00", 1000), header: []string{"Content-Encoding: gzip"}}
		}, 400, 415, 422),
		{"two hundred clients that send a header byte by byte", slowHeaders},
		{"a body that comes byte by byte", slowBody},

		cross("another site's page has a browser pay", "POST", "/api/v1/orders/1/pay", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"),
		cross("another site's form signs in", "POST", "/api/v1/auth/login", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example", "Content-Type: text/plain"),
		cross("an old browser deletes (Origin alone)", "DELETE", "/api/v1/users/me/addresses/1", "Origin: https://evil.example"),
		cross("a page in a sandbox changes a password (Origin: null)", "PUT", "/api/v1/users/me/password", "Origin: null"),
		{"another site's page reads answers (CORS)", func(ctx context.Context, s *scene) outcome {
			r := request{method: "GET", path: "/api/v1/users/me", token: s.victim.token, header: []string{"Origin: https://evil.example"}}
			a := s.send(ctx, r)
			return outcome{r.String(), a.String() + ", Access-Control-Allow-Origin: " + a.header.Get("Access-Control-Allow-Origin"), a.status == http.StatusOK && a.header.Get("Access-Control-Allow-Origin") == ""}
		}},
		{"another site's page asks whether it may (preflight)", func(ctx context.Context, s *scene) outcome {
			r := request{method: "OPTIONS", path: "/api/v1/orders", header: []string{"Origin: https://evil.example", "Access-Control-Request-Method: DELETE"}}
			a := s.send(ctx, r)
			return outcome{r.String(), a.String(), a.status != 0 && a.header.Get("Access-Control-Allow-Origin") == "" && a.header.Get("Access-Control-Allow-Methods") == ""}
		}},
		{"our pages in another site's frame, with scripts of its own", frames},
	}
}

// smuggle hides a request in another's body, for a server behind that believes the length.
func smuggle(ctx context.Context, s *scene) outcome {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", gatewayOf(s))
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	hidden := "GET /api/v1/users HTTP/1.1\r\nHost: x\r\n\r\n"
	_, _ = fmt.Fprintf(conn, "POST /api/v1/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(hidden), hidden)
	from := bufio.NewReader(conn)
	first, second := readAnswer(from), readAnswer(from)
	// What was hidden is nobody's request at most: it has no more rights than one sent openly.
	return outcome{"Content-Length and Transfer-Encoding", first.String() + ", and then " + second.String(), first.status >= 400 && second.status != http.StatusOK}
}

// slowHeaders opens many connections that never come to the point, and asks meanwhile whether others are served.
func slowHeaders(ctx context.Context, s *scene) outcome {
	const clients = 200
	var closed sync.WaitGroup
	ended := make(chan time.Duration, clients)
	began := time.Now()
	for range clients {
		closed.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", gatewayOf(s))
			if err != nil {
				return
			}
			defer conn.Close()
			_ = conn.SetReadDeadline(began.Add(30 * time.Second))
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			defer drip(conn, "a")()
			_, _ = io.Copy(io.Discard, conn)
			ended <- time.Since(began)
		})
	}
	others := s.send(ctx, request{method: "GET", path: "/api/v1/products?page_size=1"})
	closed.Wait()
	close(ended)
	n, longest := 0, time.Duration(0)
	for d := range ended {
		n, longest = n+1, max(longest, d)
	}
	return outcome{
		fmt.Sprintf("%d connections, a byte each half second", clients), fmt.Sprintf("%d closed within %.1f s; others meanwhile %s", n, longest.Seconds(), others),
		n == clients && longest < 15*time.Second && others.status == http.StatusOK,
	}
}

// drip writes b each half second, until what it returns is called.
func drip(conn net.Conn, b string) (stop func()) {
	over := make(chan struct{})
	var dripping sync.WaitGroup
	dripping.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if _, err := io.WriteString(conn, b); err != nil {
					return
				}
			}
		}
	})
	return func() {
		close(over)
		dripping.Wait()
	}
}

func slowBody(ctx context.Context, s *scene) outcome {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", gatewayOf(s))
	if err != nil {
		return outcome{"", err.Error(), false}
	}
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(30 * time.Second))
	_, _ = fmt.Fprintf(conn, "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	defer drip(conn, " ")()
	a := readAnswer(bufio.NewReader(conn))
	took := time.Since(began)
	return outcome{"a byte each half second of 1000", fmt.Sprintf("%s after %.1f s", a, took.Seconds()), took < 15*time.Second && (a.err != nil || a.status >= 400)}
}

func frames(ctx context.Context, s *scene) outcome {
	bad := ""
	for _, page := range []string{"/", "/ops", "/docs", "/api/v1/products"} {
		a := s.send(ctx, request{method: "GET", path: page})
		policy := a.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script-src 'unsafe") ||
			a.header.Get("X-Frame-Options") != "DENY" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			bad += page + " "
		}
	}
	return outcome{"GET /, /ops, /docs, /api/v1/products", "pages without a strict policy: [" + strings.TrimSpace(bad) + "]", bad == ""}
}
