package product

import (
	"context"

	"souk/shared/contract"
	"souk/shared/contract/product"
	"souk/shared/fault"
	"souk/shared/idempotency"

	"gorm.io/gorm"
)

// ListCategories gives a page of the categories by slug.
func (s *Service) ListCategories(ctx context.Context, in *product.ListCategoriesInput) (*contract.Body[contract.Page[product.Category]], error) {
	list := listName("categories")
	from, err := after(in.Paging, list)
	if err != nil {
		return nil, err
	}
	rows, err := listCategories(s.db.WithContext(ctx), from, in.Limit()+1)
	if err != nil {
		return nil, err
	}
	return contract.PageOf(rows, in.Limit(), func(c product.Category) product.Category { return c },
		func(c product.Category) any { return cursor{List: list, Name: c.Slug} })
}

// GetCategory gives a category. A missing one is NotFound.
func (s *Service) GetCategory(ctx context.Context, in *product.BySlug) (*contract.Body[product.Category], error) {
	c, err := findCategory(s.db.WithContext(ctx), in.Slug)
	if err != nil {
		return nil, err
	}
	return &contract.Body[product.Category]{Body: c}, nil
}

// CreateCategory adds a category. A slug that is taken is Conflict, code category_exists.
func (s *Service) CreateCategory(ctx context.Context, in *product.CreateCategoryInput) (*contract.Created[product.Category], error) {
	return idempotency.Once(ctx, s.db, func(tx *gorm.DB) (*contract.Created[product.Category], error) {
		c := product.Category{Slug: in.Body.Slug, Name: in.Body.Name, CreatedAt: s.now()}
		made, err := insertCategory(tx, c)
		if err != nil {
			return nil, err
		}
		if !made {
			return nil, fault.New(fault.Conflict, "category_exists", "there is a category %s already", c.Slug)
		}
		return &contract.Created[product.Category]{Location: "/api/v1/categories/" + c.Slug, Body: c}, nil
	})
}
