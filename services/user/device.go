package user

import (
	"context"
	"strings"
	"unicode/utf8"

	"souk/shared/contract"
)

const (
	deviceLen   = 100
	network4    = 24 // bits of an IPv4 address that are kept: where somebody is, and not which device there
	network6    = 48
	unknownWhat = "an unknown device"
)

// deviceOf makes of a User-Agent what its owner recognises in a list of sessions. Anybody can claim to be any device.
func deviceOf(agent string) string {
	find := func(names ...string) string { // pairs: what is in the agent, and what we call it; the first one wins
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	browser := find("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := find("Android", "Android", "iPhone", "an iPhone", "iPad", "an iPad", "Windows", "Windows", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	case browser != "":
		return browser
	}
	first, _, _ := strings.Cut(normal(agent), " ")
	if first == "" || !printable(first) || utf8.RuneCountInString(first) > deviceLen {
		return unknownWhat
	}
	return first
}

// networkOf is the network that the request of ctx came from; empty where that is not known.
func networkOf(ctx context.Context) string {
	addr := contract.ClientFrom(ctx)
	bits := network4
	if addr.Is6() {
		bits = network6
	}
	p, err := addr.Prefix(bits)
	if err != nil || !p.IsValid() {
		return ""
	}
	return p.String()
}
