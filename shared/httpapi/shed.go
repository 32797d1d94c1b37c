package httpapi

import (
	"sync/atomic"

	"souk/shared/fault"

	"github.com/gin-gonic/gin"
)

// The mesh's headers, by which a caller says how important a request is, and we that we have not begun it, or that it is not
// us who failed.
const (
	priorityHeader  = "X-Mesh-Priority"
	shedHeader      = "X-Mesh-Shed"
	elsewhereHeader = "X-Mesh-Elsewhere"
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
	priority, share := share(c.GetHeader(priorityHeader))
	if n*100 <= s.room.limit.Load()*share {
		c.Next()
		return
	}
	s.seen.shed.WithLabelValues(priority).Inc()
	c.Header("Retry-After", "1")
	c.Header(shedHeader, "1")
	writeProblem(c, fault.New(fault.Unavailable, "overloaded", "there is too much to do at the moment"))
}

// share is what a priority is called in the metrics, and the percentage of a server that it may fill.
func share(priority string) (string, int64) {
	switch priority {
	case "critical":
		return priority, 100
	case "sheddable":
		return priority, 60
	}
	return "normal", 90
}

// inherit makes the calls for a request what the request itself is.
func (s *Server) inherit(c *gin.Context) {
	if s.cfg.Inherit != nil {
		if ctx := s.cfg.Inherit(c.Request.Context(), c.Request.Header); ctx != c.Request.Context() {
			c.Request = c.Request.WithContext(ctx)
		}
	}
	c.Next()
}
