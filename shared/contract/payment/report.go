package payment

import (
	"net/http"
	"time"

	"souk/shared/contract"
	"souk/shared/identity"
	"souk/shared/money"
)

// DayReport is what was taken on a day, in one currency.
type DayReport struct {
	Day      time.Time   `json:"day" doc:"Its beginning, UTC"`
	Payments int64       `json:"payments"`
	Captured money.Money `json:"captured"`
	Refunded money.Money `json:"refunded" doc:"How much of it has gone back since"`
}

// ReportInput asks for a page of a report.
type ReportInput struct{ contract.Paging }

// ReportDays is the route of the report on days.
var ReportDays = contract.Route[ReportInput, contract.Body[contract.Page[DayReport]]]{
	ID: "report-days", Service: Service, Method: http.MethodGet, Path: "/v1/payments/reports/days",
	Permission: identity.ReadSensitiveData, Class: 1, Summary: "What was taken on each day, latest first: for data scientists at headquarters with clearance 1",
}
