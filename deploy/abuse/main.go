// Command abuse attacks a shop that it starts for that, process by process as make up does: with forged and stolen tokens, with
// other people's things, from beside the gateway, at the data where it lies, and with what no client would send. Every attack
// is a line that says what was sent and what came back; a shop that gives in to one fails the command.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // the process's first context
	only := flag.String("only", "", "paragraphs to try, separated by commas: people, decisions, between, edge, data; empty is all")
	flag.Parse()
	status := run(ctx, *only)
	stop()
	os.Exit(status)
}

// attack is something that somebody tries who is not to succeed.
type attack struct {
	name string
	try  func(context.Context, *scene) outcome
}

// outcome is what came of it.
type outcome struct {
	sent, got string
	refused   bool
}

// paragraph is a kind of attack. Data comes last: it looks at what all the others have left behind.
type paragraph struct {
	name    string
	attacks []attack
}

func paragraphs() []paragraph {
	return []paragraph{
		{"people", append(people(), programs()...)},
		{"decisions", decisions()},
		{"between", between()},
		{"edge", edge()},
		{"data", data()},
	}
}

// patience bounds one attack; the longest waits for the edge to lose its own.
const patience = 90 * time.Second

func run(ctx context.Context, only string) int {
	s, err := open(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Println("abuse: attacks=0 refused=0") //nolint:forbidigo // the closing line
		return 1
	}
	attacks, refused := 0, 0
	for _, p := range paragraphs() {
		if only != "" && !strings.Contains(","+only+",", ","+p.name+",") {
			continue
		}
		for _, a := range p.attacks {
			if ctx.Err() != nil {
				break
			}
			trying, cancel := context.WithTimeout(ctx, patience)
			o := a.try(trying, s)
			cancel()
			attacks++
			verdict := "NOT REFUSED"
			if o.refused {
				verdict, refused = "refused", refused+1
			}
			fmt.Printf("%-11s %-9s %-62s sent %s; got %s\n", verdict, p.name, a.name, brief(o.sent), brief(o.got)) //nolint:forbidigo // what the command is for
		}
	}
	if err := s.close(context.WithoutCancel(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Printf("abuse: attacks=%d refused=%d\n", attacks, refused) //nolint:forbidigo // the closing line
	if refused < attacks || attacks == 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}

// brief is text on one line, and not too long to read.
func brief(text string) string {
	const most = 150
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, text)
	if len(text) > most {
		text = text[:most] + "…"
	}
	return text
}
