package order

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/fault"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// WishlistBrief is a wish list without what is on it, as lists show it.
type WishlistBrief struct {
	ID        uuid.UUID `json:"id" format:"uuid"`
	UserID    uuid.UUID `json:"user_id" format:"uuid" doc:"Whose it is"`
	Name      string    `json:"name" example:"Birthday"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Wishlist is what somebody would like to have.
type Wishlist struct {
	WishlistBrief
	Items []WishlistItem `json:"items"`
}

// WishlistItem is a product on a wish list.
type WishlistItem struct {
	ProductID uuid.UUID `json:"product_id" format:"uuid"`
	AddedBy   uuid.UUID `json:"added_by" format:"uuid"`
	AddedAt   time.Time `json:"added_at"`
}

// WishlistInput makes a wish list.
type WishlistInput struct {
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"100" example:"Birthday"`
	}
}

// ListWishlistsInput selects wish lists.
type ListWishlistsInput struct {
	contract.Paging
	Shared bool `query:"shared_with_me" doc:"Those that others share with you, in place of your own"`
}

// WishlistItemInput names a product on a wish list.
type WishlistItemInput struct {
	contract.ByID
	ProductID uuid.UUID `path:"product_id" format:"uuid"`
}

// The routes of wish lists.
var (
	MakeWishlist = contract.Route[WishlistInput, contract.Created[Wishlist]]{
		ID: "make-wishlist", Service: Service, Method: http.MethodPost, Path: "/v1/wishlists", Status: http.StatusCreated,
		Permission: identity.OwnWishlist, Keyed: true, Summary: "Make a wish list",
		Refuses: []contract.Refusal{contract.Refuse(fault.Conflict, "too_many_wishlists", "Nobody has more than 50 wish lists")},
	}
	ListWishlists = contract.Route[ListWishlistsInput, contract.Body[contract.Page[WishlistBrief]]]{
		ID: "list-wishlists", Service: Service, Method: http.MethodGet, Path: "/v1/wishlists",
		Permission: identity.ReadWishlist, Summary: "Your wish lists, or those shared with you; newest first",
	}
	GetWishlist = contract.Route[contract.ByID, contract.Body[Wishlist]]{
		ID: "get-wishlist", Service: Service, Method: http.MethodGet, Path: "/v1/wishlists/{id}",
		Permission: identity.ReadWishlist, Summary: "A wish list with what is on it",
	}
	DropWishlist = contract.Route[contract.ByID, contract.None]{
		ID: "drop-wishlist", Service: Service, Method: http.MethodDelete, Path: "/v1/wishlists/{id}", Status: http.StatusNoContent,
		Permission: identity.OwnWishlist, Summary: "Throw a wish list away",
	}
	AddWish = contract.Route[WishlistItemInput, contract.Body[Wishlist]]{
		ID: "add-wish", Service: Service, Method: http.MethodPut, Path: "/v1/wishlists/{id}/items/{product_id}",
		Permission: identity.ManageWishlist, Summary: "Put a product on a wish list",
		Refuses: []contract.Refusal{
			contract.Refuse(fault.Invalid, "unknown_product", "There is no such product"),
			contract.Refuse(fault.Conflict, "wishlist_full", "A wish list has at most 200 products"),
		},
	}
	RemoveWish = contract.Route[WishlistItemInput, contract.Body[Wishlist]]{
		ID: "remove-wish", Service: Service, Method: http.MethodDelete, Path: "/v1/wishlists/{id}/items/{product_id}",
		Permission: identity.ManageWishlist, Summary: "Take a product off a wish list",
	}
	ShareWishlist = contract.Route[ShareInput, contract.Body[Share]]{
		ID: "share-wishlist", Service: Service, Method: http.MethodPut, Path: "/v1/wishlists/{id}/shares/{user_id}",
		Permission: identity.OwnWishlist, Summary: "Share a wish list of yours with somebody, for some time", Refuses: sharing(),
	}
	ListWishlistShares = contract.Route[ListSharesInput, contract.Body[contract.Page[Share]]]{
		ID: "list-wishlist-shares", Service: Service, Method: http.MethodGet, Path: "/v1/wishlists/{id}/shares",
		Permission: identity.OwnWishlist, Summary: "With whom a wish list of yours is shared",
	}
	UnshareWishlist = contract.Route[SharedWith, contract.None]{
		ID: "unshare-wishlist", Service: Service, Method: http.MethodDelete, Path: "/v1/wishlists/{id}/shares/{user_id}", Status: http.StatusNoContent,
		Permission: identity.OwnWishlist, Summary: "Share a wish list with somebody no longer",
	}
)
