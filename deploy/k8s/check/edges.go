package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	component = "app.kubernetes.io/component"
	nameLabel = "app.kubernetes.io/name"
	servePort = "service"
)

// edge is a call that one service makes to another.
type edge struct{ from, to string }

// callsInCode reads from the main function of every service whom it calls.
func callsInCode(root string) (map[edge]bool, error) {
	mains, err := filepath.Glob(filepath.Join(root, "services", "*", "cmd", "*", "main.go"))
	if err != nil || len(mains) == 0 {
		return nil, fmt.Errorf("no services under %q: %w", root, err)
	}
	calls := map[edge]bool{}
	for _, path := range mains {
		from := filepath.Base(filepath.Dir(path))
		names, err := namesIn(path, "Calls")
		if err != nil {
			return nil, err
		}
		if from == "gateway" { // which calls whoever is in its table of routes
			if names, err = namesIn(filepath.Join(root, "services", "gateway", "table.go"), "service"); err != nil {
				return nil, err
			}
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("%s does not say whom it calls", path)
		}
		for _, to := range names {
			calls[edge{from, to}] = true // itself as well: payment's provider calls back any of its instances
		}
		if from != "user" {
			calls[edge{from, "user"}] = true // everybody fetches the keys of tokens there
		}
	}
	return calls, nil
}

// callsInTable reads the call table, by which the services refuse all other calls.
func callsInTable(root string) (map[edge]bool, error) {
	text, err := os.ReadFile(filepath.Join(root, "shared", "peer", "calls.table"))
	if err != nil {
		return nil, err
	}
	calls, names := map[edge]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		calls[edge{words[0], words[1]}] = true
		names[words[0]], names[words[1]] = true, true
	}
	for e := range calls {
		if e.from != "*" {
			continue
		}
		delete(calls, e)
		for name := range names {
			if name != "*" && name != e.to {
				calls[edge{name, e.to}] = true
			}
		}
	}
	return calls, nil
}

// sameCalls compares the table with what the services say they call.
func sameCalls(code, table map[edge]bool) (problems []error) {
	for e := range code {
		if !table[e] {
			problems = append(problems, fmt.Errorf("%s calls %s, which is not in the call table", e.from, e.to))
		}
	}
	for e := range table {
		if !code[e] {
			problems = append(problems, fmt.Errorf("the call table lets %s call %s, which it never does", e.from, e.to))
		}
	}
	return problems
}

// namesIn gives the texts that are arguments of calls of a method, or values of a field, of that name.
func namesIn(path, name string) (names []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return nil, err
	}
	text := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			s, bad := strconv.Unquote(l.Value)
			err = bad
			names = append(names, s)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == name {
				for _, arg := range n.Args {
					text(arg)
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == name {
				text(n.Value)
			}
		}
		return true
	})
	return names, err
}

// edges gives the calls between services that the network policies let through: out of the one and into the other. A path
// that only one end allows is in half.
func edges(objects []runtime.Object) map[edge]string {
	pods := map[string]labels.Set{}
	for _, w := range workloads(objects) {
		if w.pod.Labels[component] == "service" {
			pods[w.meta.Name] = w.pod.Labels
		}
	}
	out, in := map[edge]bool{}, map[edge]bool{}
	for _, o := range objects {
		p, ok := o.(*networkingv1.NetworkPolicy)
		if !ok {
			continue
		}
		for _, self := range chosen(&p.Spec.PodSelector, pods) {
			for _, rule := range p.Spec.Egress {
				for _, to := range peers(rule.To, rule.Ports, pods) {
					out[edge{self, to}] = true
				}
			}
			for _, rule := range p.Spec.Ingress {
				for _, from := range peers(rule.From, rule.Ports, pods) {
					in[edge{from, self}] = true
				}
			}
		}
	}
	both := map[edge]string{}
	for e := range out {
		both[e] = "whole"
		if !in[e] {
			both[e] = "only out"
		}
	}
	for e := range in {
		if !out[e] {
			both[e] = "only in"
		}
	}
	return both
}

// peers are the services that a rule is about, if it is about the service port.
func peers(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, pods map[string]labels.Set) (names []string) {
	if len(ports) > 0 && !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		return p.Port == nil || p.Port.StrVal == servePort || p.Port.IntVal == 8080
	}) {
		return nil
	}
	for _, p := range peers {
		if p.PodSelector != nil && p.NamespaceSelector == nil {
			names = append(names, chosen(p.PodSelector, pods)...)
		}
	}
	return names
}

func chosen(s *metav1.LabelSelector, pods map[string]labels.Set) (names []string) {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil // the missing edge will be told
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		if selector.Matches(pods[name]) {
			names = append(names, name)
		}
	}
	return names
}

// sameEdges compares the network policies with the call table.
func sameEdges(calls map[edge]bool, allowed map[edge]string) (problems []error) {
	for e := range calls {
		if how := allowed[e]; how != "whole" {
			problems = append(problems, fmt.Errorf("%s calls %s, which the network policies forbid (%q)", e.from, e.to, how))
		}
	}
	for e, how := range allowed {
		if !calls[e] {
			problems = append(problems, fmt.Errorf("the network policies let %s call %s (%s), which it never does", e.from, e.to, how))
		}
	}
	return problems
}
