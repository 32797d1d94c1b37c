package user_test

import (
	"testing"

	"souk/services/user"
	"souk/shared/identity"

	"github.com/google/uuid"
)

// Every operation, as every role: this service decides itself, whatever the gateway has let through.
func TestRoutes_areForTheirRolesAlone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.admin(t)
	s.WalkRoles(t, map[identity.Role]uuid.UUID{identity.Admin: user.SeedAdmin})
}
