package coordinator

import (
	"souk/shared/contract/coordinator"
	"souk/shared/httpapi"
)

// Routes registers the coordinator's operations.
func (s *Service) Routes(h *httpapi.Server) {
	httpapi.Handle(h, coordinator.BeginTransaction, s.Begin)
	httpapi.Handle(h, coordinator.ResolveTransactions, s.Resolve)
	httpapi.Handle(h, coordinator.AbortTransaction, s.Abort)
	httpapi.Handle(h, coordinator.ListTransactions, s.List)
	httpapi.Handle(h, coordinator.GetTransaction, s.Get)
	httpapi.Handle(h, coordinator.TransactionStatistics, s.Statistics)
	httpapi.Handle(h, coordinator.ForceTransaction, s.Force)
	httpapi.Handle(h, coordinator.RetryTransaction, s.Retry)
	httpapi.Handle(h, coordinator.AcknowledgeTransaction, s.Acknowledge)
}
