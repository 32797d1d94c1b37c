package httpapi

import "github.com/danielgtaylor/huma/v2"

// giveExamples gives each JSON body an example, made of the examples of its fields.
func giveExamples(doc *huma.OpenAPI, content map[string]*huma.MediaType) {
	if media := content["application/json"]; media != nil && media.Schema != nil && media.Example == nil {
		media.Example = example(doc, media.Schema)
	}
}

// example is a value that fits the schema: its own example, or else one made of those of its parts. Nil where nobody can
// know, as for a text that must match a pattern.
func example(doc *huma.OpenAPI, s *huma.Schema) any {
	if s.Ref != "" {
		s = doc.Components.Schemas.SchemaFromRef(s.Ref)
	}
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	}
	switch s.Type {
	case huma.TypeObject:
		value := map[string]any{}
		for name, field := range s.Properties {
			if x := example(doc, field); x != nil {
				value[name] = x
			}
		}
		return value
	case huma.TypeArray:
		if x := example(doc, s.Items); x != nil {
			return []any{x}
		}
		return []any{}
	case huma.TypeBoolean:
		return false
	case huma.TypeInteger, huma.TypeNumber:
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case huma.TypeString:
		return map[string]any{
			"":          nil,
			"uuid":      "0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11",
			"date-time": "2026-01-02T03:04:05.000006Z",
		}[s.Format]
	default:
		return nil
	}
}
