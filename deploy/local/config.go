package local

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Config says which shop to run. The zero value is an attached one in the usual numbers, on free ports, found from the
// current folder.
type Config struct {
	// Root of the working copy; empty looks for go.work in the current folder and above.
	Root string
	// RunDir holds the state and the logs; empty is .souk/run under Root.
	RunDir string
	// Instances per service. Services that are missing get their usual number, see [Instances]; 0 starts none.
	Instances map[string]int
	// Env gives further variables (KEY=value) for an instance, such as "product-2"; may be nil.
	Env func(instance string) []string
	// BuildTags for the services; with tags they are built into a folder of their own.
	BuildTags []string
	// Overlay is a file for go build's -overlay: other sources in place of some. The services are then built into a folder
	// of their own, named after it.
	Overlay string
	// UsualPorts prefers 8080 for the gateway, 8500 for Consul and 5433 for PostgreSQL. A port that is taken is replaced.
	UsualPorts bool
	// Detach lets the shop outlive this process.
	Detach bool
	// TestID starts Souk Test ID, an identity provider to sign in with.
	TestID bool
	// NoSeed leaves the databases empty.
	NoSeed bool
	// Log receives what happens, with timings; nil discards it.
	Log io.Writer
}

// The services, in the order in which they are stopped: the edge first, so that nothing new comes in. Every service
// but the gateway has a database.
var services = []string{"gateway", "order", "user", "product", "payment", "coordinator"} //nolint:gochecknoglobals // never changes

// usual is how many instances run when nobody says otherwise: two where losing one must not be noticed.
var usual = map[string]int{"product": 2, "payment": 2} //nolint:gochecknoglobals // never changes

// ParseInstances reads "product=2,payment=3".
func ParseInstances(s string) (map[string]int, error) {
	const most = 20 // of one service; more would only be a slip of the finger
	instances := map[string]int{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		service, number, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if !slices.Contains(services, service) || err != nil || n < 0 || n > most {
			return nil, fmt.Errorf("INSTANCES: %q is not service=number (0 to %d) with one of %s", part, most, strings.Join(services, ", "))
		}
		instances[service] = n
	}
	return instances, nil
}

// complete fills what is missing.
func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.Root == "" {
		root, err := Root()
		if err != nil {
			return err
		}
		c.Root = root
	}
	var err error
	if c.Root, err = filepath.Abs(c.Root); err != nil {
		return err
	}
	if c.RunDir == "" {
		c.RunDir = filepath.Join(c.Root, ".souk", "run")
	}
	if c.RunDir, err = filepath.Abs(c.RunDir); err != nil {
		return err
	}
	instances := map[string]int{}
	for _, service := range services {
		instances[service] = max(1, usual[service])
	}
	for service := range c.Instances {
		if !slices.Contains(services, service) {
			return fmt.Errorf("there is no service %q", service)
		}
	}
	maps.Copy(instances, c.Instances)
	c.Instances = instances
	return nil
}

// Root of the working copy: the folder with go.work, the current one or one above.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.work in " + start + " or above: run this inside the working copy")
		}
	}
}

// binDir is where the services are built.
func (c *Config) binDir() string {
	name := "bin"
	if len(c.BuildTags) > 0 {
		name += "-" + strings.Join(c.BuildTags, "-")
	}
	if c.Overlay != "" {
		name += "-" + strings.TrimSuffix(filepath.Base(c.Overlay), ".json")
	}
	return filepath.Join(c.Root, ".souk", name)
}
