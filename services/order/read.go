package order

import (
	"context"
	"fmt"

	"souk/shared/contract"
	"souk/shared/contract/order"
	"souk/shared/identity"
	"souk/shared/identity/policy"
)

// List gives the caller's orders, those that are shared with them, or everybody's to whose role looks at all, newest first. Returns Malformed, code
// invalid_page_token.
func (s *Service) List(ctx context.Context, in *order.ListInput) (*contract.Body[contract.Page[order.Brief]], error) {
	after, err := contract.After[cursor](in.Paging)
	if err != nil {
		return nil, err
	}
	rows, err := list(s.db.WithContext(ctx), policy.Scope(ctx, identity.ReadOrder, policy.Order), in, after, in.Limit()+1, s.now())
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	briefs := make([]order.Brief, len(rows))
	for i, o := range rows {
		if briefs[i], err = s.sealed.brief(ctx, o); err != nil {
			return nil, err
		}
	}
	return contract.PageOf(briefs, in.Limit(), func(b order.Brief) order.Brief { return b }, func(b order.Brief) any { return cursor{b.CreatedAt, b.ID} })
}

// Get gives an order with its lines and history. Returns NotFound for what is not there or is another's.
func (s *Service) Get(ctx context.Context, in *contract.ByID) (*contract.Body[order.Detail], error) {
	db := s.db.WithContext(ctx)
	o, err := s.reach(ctx, db, in.ID, identity.ReadOrder, "")
	if err != nil {
		return nil, err
	}
	w, err := withLines(db, o)
	if err != nil {
		return nil, err
	}
	changes, err := history(db, in.ID)
	if err != nil {
		return nil, err
	}
	shown, err := s.sealed.show(ctx, w)
	if err != nil {
		return nil, err
	}
	out := &contract.Body[order.Detail]{Body: order.Detail{Order: shown, History: make([]order.Change, len(changes))}}
	for i, c := range changes {
		out.Body.History[i] = order.Change{
			From: c.FromStatus, To: c.ToStatus, Actor: c.Actor, GID: c.GID, RequestID: c.RequestID, Note: c.Note, At: c.At,
		}
	}
	return out, nil
}

// Lookup gives an order to another service. Returns NotFound.
func (s *Service) Lookup(ctx context.Context, in *contract.ByID) (*contract.Body[order.Summary], error) {
	w, err := findWhole(s.db.WithContext(ctx), in.ID, anyone())
	if err != nil {
		return nil, err
	}
	return &contract.Body[order.Summary]{Body: order.Summary{
		ID: w.ID, UserID: w.UserID, Status: string(w.Status), Total: w.money(w.TotalMinor), Lines: w.goods(),
	}}, nil
}
