package product

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"
)

// Category is a shelf of the shop. It is named by its slug, for life.
type Category struct {
	Slug      string    `json:"slug" example:"ceramics"`
	Name      string    `json:"name" example:"Ceramics"`
	CreatedAt time.Time `json:"created_at"`
}

// ListCategoriesInput asks for the categories by slug.
type ListCategoriesInput struct{ contract.Paging }

// CreateCategoryInput makes a category.
type CreateCategoryInput struct {
	Body struct {
		Slug string `json:"slug" minLength:"1" maxLength:"40" pattern:"^[a-z0-9]+(-[a-z0-9]+)*$" patternDescription:"small letters and digits with single hyphens between" example:"ceramics"`
		Name string `json:"name" minLength:"1" maxLength:"80" pattern:"^[^\\s\\x00-\\x1f\\x7f]([^\\x00-\\x1f\\x7f]*[^\\s\\x00-\\x1f\\x7f])?$" patternDescription:"one line of text, no space at either end" example:"Ceramics"`
	}
}

// BySlug names a category.
type BySlug struct {
	Slug string `path:"slug" maxLength:"40" pattern:"^[a-z0-9-]*$" patternDescription:"a slug"`
}

// The routes of the categories.
var (
	ListCategories = contract.Route[ListCategoriesInput, contract.Body[contract.Page[Category]]]{
		ID: "list-categories", Service: Service, Method: http.MethodGet, Path: "/v1/categories",
		Permission: identity.ViewProducts, Summary: "The categories, by slug",
	}
	GetCategory = contract.Route[BySlug, contract.Body[Category]]{
		ID: "get-category", Service: Service, Method: http.MethodGet, Path: "/v1/categories/{slug}",
		Permission: identity.ViewProducts, Summary: "A category",
	}
	CreateCategory = contract.Route[CreateCategoryInput, contract.Created[Category]]{
		ID: "create-category", Service: Service, Method: http.MethodPost, Path: "/v1/categories", Status: http.StatusCreated,
		Permission: identity.ManageProducts, Keyed: true, Summary: "Add a category",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Conflict, "category_exists", "There is a category of this slug"),
		},
	}
)
