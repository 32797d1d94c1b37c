package user

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// PointsBalance is how many reward points somebody has.
type PointsBalance struct {
	Available int64 `json:"available" doc:"To be spent; below zero where spent points had to be given back"`
	Held      int64 `json:"held" doc:"Set aside by transactions under way; gone or back within seconds"`
}

// PointsEntry is one movement of points that is done. The sum of all of them is available and held together.
type PointsEntry struct {
	ID        uuid.UUID `json:"id" format:"uuid"`
	Kind      string    `json:"kind" enum:"earn,spend,take_back"`
	Points    int64     `json:"points" doc:"Above zero for what came, below for what went"`
	GID       uuid.UUID `json:"gid" format:"uuid" doc:"The transaction that moved them"`
	Reference string    `json:"reference" doc:"What it was for" example:"order 0198c7a2-5d9b-7cc3-8f27-6a1c8f0d4e11"`
	CreatedAt time.Time `json:"created_at"`
}

// ListPointsInput asks for a page of movements.
type ListPointsInput struct{ contract.Paging }

// The routes of reward points. They only show: points move as branches of transactions.
var (
	GetPoints = contract.Route[contract.None, contract.Body[PointsBalance]]{
		ID: "get-points", Service: Service, Method: http.MethodGet, Path: "/v1/users/me/points",
		Permission: identity.SignedIn, Summary: "Your reward points",
	}
	ListPoints = contract.Route[ListPointsInput, contract.Body[contract.Page[PointsEntry]]]{
		ID: "list-points", Service: Service, Method: http.MethodGet, Path: "/v1/users/me/points/history",
		Permission: identity.SignedIn, Summary: "What became of your reward points, newest first",
	}
)
