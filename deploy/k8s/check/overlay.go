package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zegl/kube-score/config"
	"github.com/zegl/kube-score/domain"
	"github.com/zegl/kube-score/parser"
	"github.com/zegl/kube-score/score"
	"github.com/zegl/kube-score/score/checks"
	"github.com/zegl/kube-score/scorecard"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// overlay is what kustomize makes of a folder.
type overlay struct {
	name    string
	yaml    []byte
	objects []runtime.Object
}

// build runs kustomize and decodes each object as an API server with strict validation does: a field that the kind does
// not have is an error, and so is one that is there twice. What could not be decoded is missing from the objects.
func build(dir string) (o overlay, problems []error) {
	o.name = filepath.Base(dir)
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return o, []error{fmt.Errorf("kustomize build: %w", err)}
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return o, append(problems, err)
		}
		object, kind, err := decoder.Decode(text, nil, nil)
		if next, ok := object.(interface {
			APILifecycleReplacement() schema.GroupVersionKind
		}); ok { // types that stay do not have it
			err = fmt.Errorf("%s is on its way out, or gone: want %s", kind.GroupVersion(), next.APILifecycleReplacement().GroupVersion())
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", r.GetKind(), r.GetName(), err))
			continue
		}
		o.objects = append(o.objects, object)
		o.yaml = append(append(o.yaml, "---\n"...), text...)
	}
	return o, problems
}

// score asks kube-score with all of its default checks, and counts the critical findings. It prints those, and how many
// warnings there are. Ignoring a check takes an annotation on the object, with a comment that says why.
func (o overlay) score(out io.Writer) (critical int, err error) {
	p, err := parser.New(new(parser.Config))
	if err != nil {
		return 0, err
	}
	all, err := p.ParseFiles([]domain.NamedReader{named{bytes.NewReader(o.yaml), o.name}})
	if err != nil {
		return 0, fmt.Errorf("kube-score: %w", err)
	}
	cfg := &config.RunConfiguration{
		UseIgnoreChecksAnnotation: true,
		KubernetesVersion:         config.Semver{Major: 1, Minor: 30}, // at least: preStop.sleep came with it
		MinReplicasDeployment:     2, MinReplicasHPA: 2,
	}
	card, err := score.Score(all, score.RegisterAllChecks(all, new(checks.Config), cfg), cfg)
	if err != nil {
		return 0, fmt.Errorf("kube-score: %w", err)
	}
	warnings := map[string]int{}
	for _, object := range *card {
		for _, c := range object.Checks {
			switch {
			case c.Skipped:
			case c.Grade <= scorecard.GradeCritical:
				critical++
				fmt.Fprintf(out, "%s: critical: %s %s: %s%s\n", o.name, object.TypeMeta.Kind, object.ObjectMeta.Name, c.Check.Name, remarks(c))
			case c.Grade <= scorecard.GradeWarning:
				warnings[c.Check.Name]++
			}
		}
	}
	var lines []string
	for name, n := range warnings {
		lines = append(lines, fmt.Sprintf("%s: warning: %s (%d objects)\n", o.name, name, n))
	}
	slices.Sort(lines)
	_, err = io.WriteString(out, strings.Join(lines, ""))
	return critical, err
}

func remarks(c scorecard.TestScore) string {
	var b strings.Builder
	for _, comment := range c.Comments {
		fmt.Fprintf(&b, "; %s %s", comment.Path, comment.Summary)
	}
	return b.String()
}

type named struct {
	io.Reader
	name string
}

func (n named) Name() string { return n.name }
