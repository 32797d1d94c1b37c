package order

import (
	"souk/shared/contract/order"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on h.
func (s *Service) Routes(h *httpapi.Server) {
	h.SealAnswers(s.sealed.answers)

	httpapi.Handle(h, order.Place, s.Place)
	httpapi.Handle(h, order.List, s.List)
	httpapi.Handle(h, order.Get, s.Get)
	httpapi.Handle(h, order.Cancel, s.Cancel)
	httpapi.Handle(h, order.PayFor, s.Pay)
	httpapi.Handle(h, order.Ship, s.Ship)
	httpapi.Handle(h, order.Deliver, s.Deliver)

	httpapi.Handle(h, order.ReportCustomers, s.ReportCustomers)

	httpapi.Handle(h, order.ShareOrder, s.ShareOrder)
	httpapi.Handle(h, order.ListOrderShares, s.OrderShares)
	httpapi.Handle(h, order.UnshareOrder, s.UnshareOrder)

	httpapi.Handle(h, order.MakeWishlist, s.MakeWishlist)
	httpapi.Handle(h, order.ListWishlists, s.Wishlists)
	httpapi.Handle(h, order.GetWishlist, s.Wishlist)
	httpapi.Handle(h, order.DropWishlist, s.DropWishlist)
	httpapi.Handle(h, order.AddWish, s.AddWish)
	httpapi.Handle(h, order.RemoveWish, s.RemoveWish)
	httpapi.Handle(h, order.ShareWishlist, s.ShareWishlist)
	httpapi.Handle(h, order.ListWishlistShares, s.WishlistShares)
	httpapi.Handle(h, order.UnshareWishlist, s.UnshareWishlist)

	httpapi.Handle(h, order.LookupOrder, s.Lookup)
	s.Participant.Routes(h, order.Service)
}
