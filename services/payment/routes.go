package payment

import (
	"souk/shared/contract/payment"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on h.
func (s *Service) Routes(h *httpapi.Server) {
	if s.sealed != nil { // or it is only the routes that are wanted
		h.SealAnswers(s.sealed.answers)
	}

	httpapi.Handle(h, payment.ListWallets, s.ListWallets)
	httpapi.Handle(h, payment.GetWallet, s.GetWallet)
	httpapi.Handle(h, payment.ListWalletEntries, s.ListEntries)

	httpapi.Handle(h, payment.CreateTopUp, s.TopUp)
	httpapi.Handle(h, payment.ListTopUps, s.ListTopUps)
	httpapi.Handle(h, payment.GetTopUp, s.GetTopUp)
	httpapi.Handle(h, payment.ReceiveWebhook, s.ReceiveWebhook)

	httpapi.Handle(h, payment.ListPayments, s.ListPayments)
	httpapi.Handle(h, payment.GetPayment, s.GetPayment)
	httpapi.Handle(h, payment.RefundPayment, s.Refund)
	httpapi.Handle(h, payment.GetRefund, s.GetRefund)
	httpapi.Handle(h, payment.ListRefundRequests, s.ListRefundRequests)
	httpapi.Handle(h, payment.ApproveRefund, s.ApproveRefund)
	httpapi.Handle(h, payment.RejectRefund, s.RejectRefund)
	httpapi.Handle(h, payment.VoidPayment, s.Void)

	httpapi.Handle(h, payment.CreateTransfer, s.Transfer)
	httpapi.Handle(h, payment.GetTransfer, s.GetTransfer)

	httpapi.Handle(h, payment.ReportDays, s.ReportDays)
	httpapi.Handle(h, payment.ListAccounts, s.ListAccounts)
	httpapi.Handle(h, payment.CheckLedger, s.CheckLedger)

	httpapi.Handle(h, payment.GetLetterbox, s.Letterbox)
	s.Participant.Routes(h, payment.Service)
}
