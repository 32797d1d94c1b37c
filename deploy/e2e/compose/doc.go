// Package compose tries docker-compose.yml for real: it builds the images, starts the shop as a project of its own on free
// ports, takes payment away in the middle of purchases, and looks at what is left. It needs Docker with Compose v2 and
// takes minutes, so it runs only when asked to: go test ./deploy/e2e/compose -compose (make e2e-compose).
package compose
