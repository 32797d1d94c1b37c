package product

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// Product is an entry of the catalogue, with how many of it can be bought now.
type Product struct {
	ID          uuid.UUID   `json:"id" format:"uuid"`
	SKU         string      `json:"sku" example:"CER-001" doc:"The shop's own article number"`
	Name        string      `json:"name" example:"Tea bowl, ash glaze"`
	Description string      `json:"description" example:"Thrown by hand"`
	Category    string      `json:"category" example:"ceramics" doc:"The slug of its category"`
	Price       money.Money `json:"price"`
	Available   int64       `json:"available" doc:"How many can be bought now"`
	Archived    bool        `json:"archived" doc:"No longer sold, and no longer in the list"`
	Version     int64       `json:"version" doc:"Counts the changes of the entry; send it as If-Match to change it. Stock moves do not count"`
	CreatedAt   time.Time   `json:"created_at"`
	UpdatedAt   time.Time   `json:"updated_at"`
}

// The orders of the list.
const (
	SortNewest    = "newest"
	SortPrice     = "price"
	SortPriceDesc = "-price"
	SortName      = "name"
	SortRelevance = "relevance"
)

// MaxAmount is the highest price, in minor units.
const MaxAmount = 1_000_000_000_000

// ListInput selects products that are not archived. The zero value selects them all, newest first.
type ListInput struct {
	contract.Paging
	Q        string         `query:"q" maxLength:"200" pattern:"^[^\\x00�]*$" patternDescription:"text" doc:"Words to search names and descriptions for; \"quoted phrases\", or, and -not are understood"`
	Category string         `query:"category" maxLength:"40" pattern:"^[a-z0-9-]*$" patternDescription:"a slug" doc:"Only this category, by its slug"`
	Sort     string         `query:"sort" enum:"newest,price,-price,name,relevance" doc:"relevance (the default with q, and only with q) or newest (the default without). Prices are ordered within each currency"`
	MinPrice int64          `query:"min_price" minimum:"0" maximum:"1000000000000" doc:"Minor units of currency"`
	MaxPrice int64          `query:"max_price" minimum:"0" maximum:"1000000000000" default:"1000000000000" doc:"Minor units of currency"`
	Currency money.Currency `query:"currency" maxLength:"3" doc:"Only products priced in this currency. A price range without it is in the shop's own currency"`
}

// Output is a product, and its version as an ETag for If-Match.
type Output struct {
	ETag string `header:"ETag" doc:"The version, quoted"`
	Body Product
}

// CreatedOutput is a product just made.
type CreatedOutput struct {
	Location string `header:"Location"`
	ETag     string `header:"ETag" doc:"The version, quoted"`
	Body     Product
}

// CreateInput makes a product; it starts with no stock.
type CreateInput struct {
	Body struct {
		SKU         string      `json:"sku" minLength:"1" maxLength:"40" pattern:"^[A-Z0-9][A-Z0-9-]*$" patternDescription:"capital letters, digits and hyphens" example:"CER-001"`
		Name        string      `json:"name" minLength:"1" maxLength:"120" pattern:"^[^\\s\\x00-\\x1f\\x7f]([^\\x00-\\x1f\\x7f]*[^\\s\\x00-\\x1f\\x7f])?$" patternDescription:"one line of text, no space at either end" example:"Tea bowl, ash glaze"`
		Description string      `json:"description,omitempty" maxLength:"4000" pattern:"^[^\\x00]*$" patternDescription:"text" example:"Thrown by hand"`
		Category    string      `json:"category" minLength:"1" maxLength:"40" pattern:"^[a-z0-9-]*$" patternDescription:"a slug" example:"ceramics"`
		Price       money.Money `json:"price"`
	}
}

// UpdateInput changes what its body names and leaves the rest. The SKU is for life.
type UpdateInput struct {
	ID      uuid.UUID `path:"id" format:"uuid"`
	IfMatch string    `header:"If-Match" maxLength:"64" doc:"Required: the ETag of the product as you saw it" example:"\"1\""`
	Body    struct {
		Name        *string      `json:"name,omitempty" minLength:"1" maxLength:"120" pattern:"^[^\\s\\x00-\\x1f\\x7f]([^\\x00-\\x1f\\x7f]*[^\\s\\x00-\\x1f\\x7f])?$" patternDescription:"one line of text, no space at either end" example:"Tea bowl, ash glaze"`
		Description *string      `json:"description,omitempty" maxLength:"4000" pattern:"^[^\\x00]*$" patternDescription:"text" example:"Thrown by hand"`
		Category    *string      `json:"category,omitempty" minLength:"1" maxLength:"40" pattern:"^[a-z0-9-]*$" patternDescription:"a slug" example:"ceramics"`
		Price       *money.Money `json:"price,omitempty"`
	}
}

// Change is one version of a product, as it was from then on.
type Change struct {
	Version     int64       `json:"version"`
	Change      string      `json:"change" enum:"created,updated,archived"`
	Name        string      `json:"name" example:"Tea bowl, ash glaze"`
	Description string      `json:"description" example:"Thrown by hand"`
	Category    string      `json:"category" example:"ceramics"`
	Price       money.Money `json:"price"`
	Actor       *uuid.UUID  `json:"actor,omitempty" format:"uuid" doc:"Who changed it; absent for the seed"`
	RequestID   string      `json:"request_id,omitempty" example:"0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	At          time.Time   `json:"at"`
}

// HistoryInput asks for what happened to a product, newest first.
type HistoryInput struct {
	contract.Paging
	ID uuid.UUID `path:"id" format:"uuid"`
}

// The routes of the catalogue.
var (
	ListProducts = contract.Route[ListInput, contract.Body[contract.Page[Product]]]{
		ID: "list-products", Service: Service, Method: http.MethodGet, Path: "/v1/products",
		Permission: identity.ViewProducts, Summary: "Search and list the catalogue",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "nothing_to_match", "sort=relevance without q"),
			contract.Refuse(fault.Invalid, "empty_price_range", "min_price is above max_price"),
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
	GetProduct = contract.Route[contract.ByID, Output]{
		ID: "get-product", Service: Service, Method: http.MethodGet, Path: "/v1/products/{id}",
		Permission: identity.ViewProducts, Summary: "A product, archived ones included",
	}
	CreateProduct = contract.Route[CreateInput, CreatedOutput]{
		ID: "create-product", Service: Service, Method: http.MethodPost, Path: "/v1/products", Status: http.StatusCreated,
		Permission: identity.ManageProducts, Keyed: true, Summary: "Add a product to the catalogue",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "sku_taken", "Another product has this SKU"),
			contract.Refuse(fault.Invalid, "unknown_category", "There is no such category"),
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
	UpdateProduct = contract.Route[UpdateInput, Output]{
		ID: "update-product", Service: Service, Method: http.MethodPatch, Path: "/v1/products/{id}",
		Permission: identity.ManageProducts, Summary: "Change a product, unless somebody else has meanwhile",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Malformed, "if_match_required", "There is no If-Match"),
			contract.Refuse(fault.Precondition, "version_mismatch", "The product has changed since you saw it"),
			contract.Refuse(fault.Conflict, "product_archived", "The product is archived"),
			contract.Refuse(fault.Invalid, "nothing_to_change", "The body names nothing to change"),
			contract.Refuse(fault.Invalid, "unknown_category", "There is no such category"),
			contract.Refuse(fault.Invalid, "unknown_currency", "The shop does not trade in that currency"),
		},
	}
	ArchiveProduct = contract.Route[contract.ByID, Output]{
		ID: "archive-product", Service: Service, Method: http.MethodPost, Path: "/v1/products/{id}/archive",
		Permission: identity.ManageProducts, Keyed: true, Summary: "Stop selling a product, for good",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "product_archived", "The product is archived already"),
		},
	}
	ListChanges = contract.Route[HistoryInput, contract.Body[contract.Page[Change]]]{
		ID: "list-product-changes", Service: Service, Method: http.MethodGet, Path: "/v1/products/{id}/history",
		Permission: identity.ManageProducts, Summary: "The versions of a product, newest first",
	}
)
