package user

import (
	"souk/shared/contract/user"
	"souk/shared/httpapi"
)

// Routes registers the service's operations on h.
func (s *Service) Routes(h *httpapi.Server) {
	h.SealAnswers(s.sealed.answers)

	httpapi.Handle(h, user.Register, s.Register)
	httpapi.Handle(h, user.Login, s.Login)
	httpapi.Handle(h, user.Refresh, s.Refresh)
	httpapi.Handle(h, user.Logout, s.Logout)
	httpapi.Handle(h, user.Keys, s.Keys)

	httpapi.Handle(h, user.ListProviders, s.Providers)
	httpapi.Handle(h, user.StartSignIn, s.StartSignIn)
	httpapi.Handle(h, user.FinishAtProvider, s.FinishAtProvider)
	httpapi.Handle(h, user.FinishSignIn, s.FinishSignIn)
	httpapi.Handle(h, user.LinkSignIn, s.LinkSignIn)

	httpapi.Handle(h, user.RegisterClient, s.RegisterClient)
	httpapi.Handle(h, user.ListClients, s.Clients)
	httpapi.Handle(h, user.RemoveClient, s.RemoveClient)
	httpapi.Handle(h, user.GetOAuthRequest, s.OAuthRequest)
	httpapi.Handle(h, user.ApproveOAuthRequest, s.ApproveOAuthRequest)
	httpapi.Handle(h, user.DenyOAuthRequest, s.DenyOAuthRequest)
	httpapi.Handle(h, user.ExchangeToken, s.ExchangeToken)
	h.Fallback(s)

	httpapi.Handle(h, user.ListRevocations, s.Revocations)
	httpapi.Handle(h, user.GetStanding, s.Standing)

	httpapi.Handle(h, user.ListSessions, s.Sessions)
	httpapi.Handle(h, user.EndSession, s.EndSession)
	httpapi.Handle(h, user.EndOtherSessions, s.EndOtherSessions)
	httpapi.Handle(h, user.SetPassword, s.SetPassword)

	httpapi.Handle(h, user.GetMe, s.Me)
	httpapi.Handle(h, user.UpdateMe, s.UpdateMe)

	httpapi.Handle(h, user.ListAddresses, s.Addresses)
	httpapi.Handle(h, user.AddAddress, s.AddAddress)
	httpapi.Handle(h, user.GetAddress, s.Address)
	httpapi.Handle(h, user.ReplaceAddress, s.ReplaceAddress)
	httpapi.Handle(h, user.RemoveAddress, s.RemoveAddress)

	httpapi.Handle(h, user.GetPoints, s.Points)
	httpapi.Handle(h, user.ListPoints, s.PointsHistory)

	httpapi.Handle(h, user.ListUsers, s.List)
	httpapi.Handle(h, user.GetUser, s.User)
	httpapi.Handle(h, user.DisableUser, s.Disable)
	httpapi.Handle(h, user.EnableUser, s.Enable)
	httpapi.Handle(h, user.SetRoles, s.SetRoles)
	httpapi.Handle(h, user.GetAccess, s.Access)
	httpapi.Handle(h, user.GrantRole, s.GrantRole)
	httpapi.Handle(h, user.RevokeRole, s.RevokeRole)
	httpapi.Handle(h, user.SetAttributes, s.SetAttributes)
	httpapi.Handle(h, user.ListAccountChanges, s.Changes)
	httpapi.Handle(h, user.ExportPeople, s.Export)

	s.Participant.Routes(h, user.Service)
}
