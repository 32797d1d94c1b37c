package payment

import (
	"context"
	"errors"
	"net/http"

	"souk/shared/contract"
	"souk/shared/contract/payment"
	"souk/shared/contract/user"
	"souk/shared/idempotency"
	"souk/shared/identity"
	"souk/shared/money"
	"souk/shared/twopc"
)

// Transfer turns the caller's reward points into money in their wallet: points and money change in two services, or in
// neither. Returns Invalid for a currency the shop does not trade in, and Conflict, code insufficient_points, for more
// points than there are.
func (s *Service) Transfer(ctx context.Context, in *payment.TransferInput) (*payment.TransferOutput, error) {
	c, err := money.ParseCurrency(in.Body.Currency)
	if err != nil {
		return nil, err
	}
	return idempotency.Steps(ctx, s.db, func(r idempotency.Request) (*payment.TransferOutput, bool, error) {
		id, who, points := r.ID("transfer"), identity.From(ctx).UserID, in.Body.Points
		amount := user.PointValue(points, c)
		out := &payment.TransferOutput{Status: http.StatusCreated, Location: "/api/v1/transfers/" + id.String()}

		_, err := s.Participant.Settle(ctx, r, []twopc.Branch{
			{
				Service: user.Service, Action: user.ActionSpend, Key: who.String(),
				Payload: user.Points{UserID: who, Points: points, Reference: id.String()},
			},
			{
				Service: payment.Service, Action: payment.ActionCredit, Key: who.String(),
				Payload: payment.Credit{TransferID: id, UserID: who, Points: points, Amount: amount},
			},
		})
		if pending, ok := errors.AsType[*twopc.PendingError](err); ok {
			out.Status = http.StatusAccepted
			out.Body = payment.Transfer{ID: id, Points: points, Amount: amount, Status: payment.Pending, TransactionID: &pending.GID}
			return out, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		t, err := findTransfer(s.db.WithContext(ctx), id)
		if err != nil {
			return nil, false, err
		}
		out.Body = t.view()
		return out, true, nil
	})
}

// GetTransfer gives a transfer of the caller. Returns NotFound for anybody else's, and for one that has not come to this
// service yet.
func (s *Service) GetTransfer(ctx context.Context, in *contract.ByID) (*contract.Body[payment.Transfer], error) {
	t, err := findTransferOf(s.db.WithContext(ctx), in.ID, identity.From(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return &contract.Body[payment.Transfer]{Body: t.view()}, nil
}

func (r transferRow) view() payment.Transfer {
	return payment.Transfer{
		ID: r.ID, Points: r.Points, Amount: r.Money, Status: r.Status, TransactionID: &r.GID, CreatedAt: &r.CreatedAt, SettledAt: r.SettledAt,
	}
}
