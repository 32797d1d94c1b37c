package gateway

// DocumentLife is how long a service's document is good for.
const DocumentLife = documentLife

// Shut fills the services, but for the last place, which is for who pays.
func (g *Gateway) Shut() {
	g.pressure.mu.Lock()
	defer g.pressure.mu.Unlock()
	g.pressure.taken = int(g.pressure.limit) - 1
}
