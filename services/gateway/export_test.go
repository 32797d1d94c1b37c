package gateway

// DocumentLife is how long a service's document is good for.
const DocumentLife = documentLife

// Shut lets no customer in.
func (g *Gateway) Shut() {
	g.pressure.mu.Lock()
	defer g.pressure.mu.Unlock()
	g.pressure.open = 0
}
