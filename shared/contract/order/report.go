package order

import (
	"net/http"

	"souk/shared/contract"
	"souk/shared/identity"
	"souk/shared/money"

	"github.com/google/uuid"
)

// CustomerReport is what a customer has bought, in one currency.
type CustomerReport struct {
	UserID   uuid.UUID   `json:"user_id" format:"uuid"`
	Orders   int64       `json:"orders" doc:"Placed, whatever became of them"`
	Paid     money.Money `json:"paid"`
	Refunded money.Money `json:"refunded"`
}

// ReportInput asks for a page of a report.
type ReportInput struct{ contract.Paging }

// ReportCustomers is the route of the report on customers.
var ReportCustomers = contract.Route[ReportInput, contract.Body[contract.Page[CustomerReport]]]{
	ID: "report-customers", Service: Service, Method: http.MethodGet, Path: "/v1/orders/reports/customers",
	Permission: identity.ReadSensitiveData, Class: 2, Summary: "What each customer has bought: for data scientists at headquarters with clearance 2",
}
