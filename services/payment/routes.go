package payment

import (
	"souk/shared/contract/payment"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on server.
func (s *Service) Routes(server *httpapi.Server) {
	httpapi.Handle(server, payment.ListWallets, s.ListWallets)
	httpapi.Handle(server, payment.GetWallet, s.GetWallet)
	httpapi.Handle(server, payment.ListWalletEntries, s.ListEntries)

	httpapi.Handle(server, payment.CreateTopUp, s.TopUp)
	httpapi.Handle(server, payment.ListTopUps, s.ListTopUps)
	httpapi.Handle(server, payment.GetTopUp, s.GetTopUp)
	httpapi.Handle(server, payment.ReceiveWebhook, s.ReceiveWebhook)

	httpapi.Handle(server, payment.ListPayments, s.ListPayments)
	httpapi.Handle(server, payment.GetPayment, s.GetPayment)
	httpapi.Handle(server, payment.RefundPayment, s.Refund)
	httpapi.Handle(server, payment.GetRefund, s.GetRefund)
	httpapi.Handle(server, payment.VoidPayment, s.Void)

	httpapi.Handle(server, payment.CreateTransfer, s.Transfer)
	httpapi.Handle(server, payment.GetTransfer, s.GetTransfer)

	httpapi.Handle(server, payment.ListAccounts, s.ListAccounts)
	httpapi.Handle(server, payment.CheckLedger, s.CheckLedger)

	s.Participant.Routes(server, payment.Service)
}
