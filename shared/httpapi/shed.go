package httpapi

import (
	"sync/atomic"

	"souk/shared/fault"
	"souk/shared/mesh"

	"github.com/gin-gonic/gin"
)

// inflightLimit is how many requests a server takes at a time unless it is told otherwise.
const inflightLimit = 256

// room is what a server can take at a time. There is no queue: who waits in one is answered when nobody is listening any
// more. What is refused was not begun, and the caller's mesh tries it elsewhere, whatever its method.
type room struct {
	limit atomic.Int64
	taken atomic.Int64
}

// Admit sets how many requests are answered at a time; 256 if it is not called. Those that nobody waits for are refused at
// 60 % of it, ordinary ones at 90 %, and only those that end something begun may take all.
func (s *Server) Admit(limit int) { s.room.limit.Store(int64(limit)) }

// admit refuses what is too much, the least important first.
func (s *Server) admit(c *gin.Context) {
	n := s.room.taken.Add(1)
	defer s.room.taken.Add(-1)
	p := mesh.PriorityOf(c.Request.Header)
	if n*100 <= s.room.limit.Load()*share(p) {
		c.Next()
		return
	}
	s.seen.shed.WithLabelValues(string(p)).Inc()
	c.Header("Retry-After", "1")
	c.Header(mesh.HeaderShed, "1")
	writeProblem(c, fault.New(fault.Unavailable, "overloaded", "there is too much to do at the moment"))
}

// share is the percentage of a server that a priority may fill.
func share(p mesh.Priority) int64 {
	switch p {
	case mesh.Critical:
		return 100
	case mesh.Sheddable:
		return 60
	}
	return 90
}

// inherit makes the calls for this request what the request itself is: see mesh.Inherit.
func inherit(c *gin.Context) {
	if ctx := mesh.Inherit(c.Request.Context(), c.Request.Header); ctx != c.Request.Context() {
		c.Request = c.Request.WithContext(ctx)
	}
	c.Next()
}
