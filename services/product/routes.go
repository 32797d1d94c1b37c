package product

import (
	"souk/shared/contract/product"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on server.
func (s *Service) Routes(server *httpapi.Server) {
	httpapi.Handle(server, product.ListProducts, s.ListProducts)
	httpapi.Handle(server, product.GetProduct, s.GetProduct)
	httpapi.Handle(server, product.CreateProduct, s.CreateProduct)
	httpapi.Handle(server, product.UpdateProduct, s.UpdateProduct)
	httpapi.Handle(server, product.ArchiveProduct, s.ArchiveProduct)
	httpapi.Handle(server, product.ListChanges, s.ListChanges)
	httpapi.Handle(server, product.LookupProducts, s.LookupProducts)

	httpapi.Handle(server, product.ListCategories, s.ListCategories)
	httpapi.Handle(server, product.GetCategory, s.GetCategory)
	httpapi.Handle(server, product.CreateCategory, s.CreateCategory)

	httpapi.Handle(server, product.GetStock, s.GetStock)
	httpapi.Handle(server, product.AdjustStock, s.AdjustStock)
	httpapi.Handle(server, product.ListMovements, s.ListMovements)
	httpapi.Handle(server, product.GetMovement, s.GetMovement)

	s.Participant.Routes(server, product.Service)
}
