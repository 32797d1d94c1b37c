package order

import (
	"souk/shared/contract/order"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on h.
func (s *Service) Routes(h *httpapi.Server) {
	httpapi.Handle(h, order.Place, s.Place)
	httpapi.Handle(h, order.List, s.List)
	httpapi.Handle(h, order.Get, s.Get)
	httpapi.Handle(h, order.Cancel, s.Cancel)
	httpapi.Handle(h, order.PayFor, s.Pay)
	httpapi.Handle(h, order.Ship, s.Ship)
	httpapi.Handle(h, order.Deliver, s.Deliver)

	httpapi.Handle(h, order.LookupOrder, s.Lookup)
	s.Participant.Routes(h, order.Service)
}
