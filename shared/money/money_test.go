package money_test

import (
	"math/big"
	"testing"

	"souk/shared/money"

	"pgregory.net/rapid"
)

func TestArithmetic_isExactOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		m := money.Money{Amount: a, Currency: "USD"}

		sum, err := m.Add(money.Money{Amount: b, Currency: "USD"})
		check(t, "sum", sum, err, new(big.Int).Add(big.NewInt(a), big.NewInt(b)))
		product, err := m.Times(b)
		check(t, "product", product, err, new(big.Int).Mul(big.NewInt(a), big.NewInt(b)))
	})
}

func check(t *rapid.T, what string, got money.Money, err error, want *big.Int) {
	t.Helper()
	switch {
	case want.IsInt64() && err != nil:
		t.Errorf("%s refused, want %s", what, want)
	case want.IsInt64() && got.Amount != want.Int64():
		t.Errorf("%s = %d, want %s", what, got.Amount, want)
	case !want.IsInt64() && err == nil:
		t.Errorf("%s = %d, want a refusal of %s", what, got.Amount, want)
	}
}

func TestAdd_refusesTwoCurrencies(t *testing.T) {
	t.Parallel()
	if _, err := (money.Money{Amount: 1, Currency: "USD"}).Add(money.Money{Amount: 1, Currency: "EUR"}); err == nil {
		t.Error("dollars and euros were added")
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]money.Money{
		"19.99 USD": {Amount: 1999, Currency: "USD"}, "-0.05 EUR": {Amount: -5, Currency: "EUR"},
		"500 JPY": {Amount: 500, Currency: "JPY"}, "1.005 KWD": {Amount: 1005, Currency: "KWD"},
	} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseCurrency(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "usd", "XXX", "US", "USD ", "USDD"} {
		if _, err := money.ParseCurrency(bad); err == nil {
			t.Errorf("%q was taken for a currency", bad)
		}
	}
	if c, err := money.ParseCurrency("USD"); err != nil || c != "USD" {
		t.Errorf("USD: %q, %v", c, err)
	}
}
