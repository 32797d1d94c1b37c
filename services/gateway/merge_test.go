package gateway

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two services with a schema of the same name, one of which has another that refers to it: both must keep their own.
func TestMerge_keepsConflictingComponentsApart(t *testing.T) {
	t.Parallel()
	doc := func(path, itemType string) []byte {
		return []byte(`{"openapi":"3.1.0","paths":{"` + path + `":{
			"parameters":[{"name":"n","in":"query","schema":{"maximum":9223372036854775807}}],
			"get":{"operationId":"get","security":[{"bearer":[]}],"responses":{"200":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Page"}},
				"text/json":{"schema":{"anyOf":[{"$ref":"#/components/schemas/Either"},{"$ref":"#/components/schemas/Money"}]}}}}}}}},
			"components":{"schemas":{
				"Money":{"type":"object"},
				"Vote":{"type":"string","description":"of an operation that is not for outsiders"},
				"Item":{"type":"` + itemType + `"},
				"Page":{"type":"array","items":{"$ref":"#/components/schemas/Item"}},
				"Either":{"discriminator":{"propertyName":"a","mapping":{"x":"#/components/schemas/Item"}}}},
			"securitySchemes":{"bearer":{"type":"http","scheme":"bearer","bearerFormat":"` + itemType + `"}}}}`)
	}
	sources := []source{{"product", doc("/v1/products", "string")}, {"order", doc("/v1/orders", "integer")}}
	merged := merge("1.2.3", sources)
	if string(merged) != string(merge("1.2.3", sources)) {
		t.Error("the same documents give other bytes")
	}
	got, err := parse(merged)
	if err != nil {
		t.Fatal(err)
	}
	schemas := asObject(asObject(got["components"])["schemas"])
	var names []string
	for _, name := range []string{"Money", "Item", "Page", "Either", "OrderMoney", "OrderItem", "OrderPage", "OrderEither"} {
		if schemas[name] != nil {
			names = append(names, name)
		}
	}
	if diff := cmp.Diff([]string{"Money", "Item", "Page", "Either", "OrderItem", "OrderPage", "OrderEither"}, names); diff != "" || len(schemas) != 7 {
		t.Errorf("%d schemas (-want +got):\n%s", len(schemas), diff)
	}
	item := asObject(asObject(got["paths"])["/api/v1/orders"])
	get := asObject(item["get"])
	for what, c := range map[string]struct{ got, want any }{
		"what the order's page is of":  {asObject(asObject(schemas["OrderPage"])["items"])["$ref"], "#/components/schemas/OrderItem"},
		"what the product's is of":     {asObject(asObject(schemas["Page"])["items"])["$ref"], "#/components/schemas/Item"},
		"the mapping":                  {asObject(asObject(asObject(schemas["OrderEither"])["discriminator"])["mapping"])["x"], "#/components/schemas/OrderItem"},
		"the order's item":             {asObject(schemas["OrderItem"])["type"], "integer"},
		"the order's operation":        {get["operationId"], "order-get"},
		"the order's security":         {get["security"], []any{object{"Orderbearer": []any{}}}},
		"the order's tags":             {get["tags"], []any{"order"}},
		"the product's operation":      {asObject(asObject(asObject(got["paths"])["/api/v1/products"])["get"])["operationId"], "get"},
		"a number with many digits":    {item["parameters"].([]any)[0].(object)["schema"], object{"maximum": json.Number("9223372036854775807")}},
		"the version of the whole":     {asObject(got["info"])["version"], "1.2.3"},
		"the order's answer's content": {asObject(asObject(asObject(asObject(get["responses"])["200"])["content"])["application/json"])["schema"], object{"$ref": "#/components/schemas/OrderPage"}},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestMerge_leavesOutWhatCannotBeReached(t *testing.T) {
	t.Parallel()
	doc := []byte(`{"openapi":"3.1.0","paths":{"/v1/orders":{},"/v1/products":{},"/internal/v1/x":{},"/.well-known/jwks.json":{},"/api/v1/products":{}}}`)
	got, err := parse(merge("1", []source{{"product", doc}, {"user", doc}}))
	if err != nil {
		t.Fatal(err)
	}
	want := object{"/api/v1/products": object{}, "/.well-known/jwks.json": object{}}
	if diff := cmp.Diff(want, got["paths"]); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}
