// Command check builds every overlay of deploy/k8s and looks for what a cluster, or a careful reader, would refuse. It is a
// module of its own because the Kubernetes API machinery is larger than all of the shop.
//
//	check [-root DIR] OVERLAY...
//
// It closes with "k8s-check: overlays=… objects=… errors=… critical=…" and fails unless both are zero.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "the working copy, whose call table says who may call whom")
	flag.Parse()
	if !check(os.Stdout, *root, flag.Args()) {
		os.Exit(1)
	}
}

// check looks at the overlays, prints what it finds and the closing line, and reports whether all is well.
func check(out io.Writer, root string, overlays []string) bool {
	objects, problems, critical := 0, 0, 0
	code, err := callsInCode(root)
	calls, err2 := callsInTable(root)
	for _, err := range append([]error{err, err2}, sameCalls(code, calls)...) {
		if err != nil {
			fmt.Fprintln(out, err)
			problems++
		}
	}
	for _, dir := range overlays {
		name := filepath.Base(dir)
		o, found := build(dir)
		if len(found) == 0 {
			found = append(rules(o.objects), sameEdges(calls, edges(o.objects))...)
		}
		for _, err := range found {
			fmt.Fprintf(out, "%s: %v\n", name, err)
		}
		bad, err := o.score(out)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", name, err)
			problems++
		}
		objects, problems, critical = objects+len(o.objects), problems+len(found), critical+bad
	}
	if objects == 0 {
		fmt.Fprintln(out, "there is nothing to check")
		problems++
	}
	fmt.Fprintf(out, "k8s-check: overlays=%d objects=%d errors=%d critical=%d\n", len(overlays), objects, problems, critical)
	return problems == 0 && critical == 0
}
