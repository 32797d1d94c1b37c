package mesh

import "time"

// hopCost is taken off the time a callee is told: what the way there and back may eat.
const hopCost = 5 * time.Millisecond

// deadlineFrom bounds the whole call, body included: 10 s, or longer where the caller allowed its tries more. A shorter
// deadline of the caller wins.
func (c *call) deadlineFrom(began time.Time) time.Time {
	limit := c.mesh.cfg.CallTimeout
	if c.tryTimeout > 0 {
		limit = max(limit, c.tryTimeout*time.Duration(c.mesh.cfg.Tries))
	}
	at := began.Add(limit)
	if callers, ok := c.req.Context().Deadline(); ok && callers.Before(at) {
		return callers
	}
	return at
}

// tryLimit is how long the next try may take until its headers: its class's limit, or less if the call is running out of
// time. Only a call that can be repeated after a timeout keeps something back for another try.
func (c *call) tryLimit(now time.Time, triesLeft int) time.Duration {
	limit := c.tryTimeout
	if limit <= 0 {
		limit = c.mesh.cfg.tryTimeout(c.class)
	}
	left := c.deadline.Sub(now)
	if c.repeatable && !c.noRetry && c.body.again() {
		left /= time.Duration(triesLeft)
	}
	return min(limit, left)
}

func (c Config) tryTimeout(class Class) time.Duration {
	switch class {
	case ClassRead:
		return c.ReadTimeout
	case ClassCritical:
		return c.CriticalTimeout
	}
	return c.WriteTimeout
}
