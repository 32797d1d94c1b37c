package payment_test

import "testing"

// Every operation, as every role: this service decides itself, whatever the gateway has let through.
func TestRoutes_areForTheirRolesAlone(t *testing.T) {
	t.Parallel()
	setup(t, nil).WalkRoles(t, nil)
}
