package mesh

import (
	"context"
	"net/http/httptrace"
)

// traced is a context with a trace of its connections. It is what httptrace.WithClientTrace makes, in a place that is there
// anyway, and without reflection where there is a trace already, as in a reverse proxy.
type traced struct {
	context.Context
	trace httptrace.ClientTrace
	outer *httptrace.ClientTrace // the caller's; nil without
}

// begin has ask and got called when a connection is looked for and had.
func (c *traced) begin(ask func(string), got func(httptrace.GotConnInfo)) {
	if c.outer = httptrace.ContextClientTrace(c.Context); c.outer != nil {
		c.trace = *c.outer
	}
	c.trace.GetConn, c.trace.GotConn = ask, got
}

// Value is part of context.Context.
func (c *traced) Value(key any) any {
	if key == traceKey {
		return &c.trace
	}
	return c.Context.Value(key)
}

// traceKey is the key by which net/http finds a trace in a context. It is not exported, but whoever is asked for it sees it.
var traceKey = func() (key any) { //nolint:gochecknoglobals // never changes
	httptrace.ContextClientTrace(witness{context.Background(), &key}) //nolint:forbidigo // nothing is done in it
	return key
}()

// witness is a context that notes what it is asked for.
type witness struct {
	context.Context
	asked *any
}

// Value is part of context.Context.
func (w witness) Value(key any) any {
	*w.asked = key
	return nil
}
