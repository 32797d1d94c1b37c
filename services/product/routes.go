package product

import (
	"souk/shared/contract/product"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on h.
func (s *Service) Routes(h *httpapi.Server) {
	httpapi.Handle(h, product.ListProducts, s.ListProducts)
	httpapi.Handle(h, product.GetProduct, s.GetProduct)
	httpapi.Handle(h, product.CreateProduct, s.CreateProduct)
	httpapi.Handle(h, product.UpdateProduct, s.UpdateProduct)
	httpapi.Handle(h, product.ArchiveProduct, s.ArchiveProduct)
	httpapi.Handle(h, product.ListChanges, s.ListChanges)
	httpapi.Handle(h, product.LookupProducts, s.LookupProducts)

	httpapi.Handle(h, product.ListCategories, s.ListCategories)
	httpapi.Handle(h, product.GetCategory, s.GetCategory)
	httpapi.Handle(h, product.CreateCategory, s.CreateCategory)

	httpapi.Handle(h, product.GetStock, s.GetStock)
	httpapi.Handle(h, product.AdjustStock, s.AdjustStock)
	httpapi.Handle(h, product.ListMovements, s.ListMovements)
	httpapi.Handle(h, product.GetMovement, s.GetMovement)

	s.Participant.Routes(h, product.Service)
}
