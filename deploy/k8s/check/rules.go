package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// drainSeconds is what a service may take after SIGTERM: 2 to leave Consul, 3 until callers have noticed, 15 for the
// requests that it has, 2 and 2 to say good-bye to the rest (shared/app).
const drainSeconds = 24

// workload is what makes pods.
type workload struct {
	meta metav1.ObjectMeta
	pod  corev1.PodTemplateSpec
	serv bool // it serves until it is told to stop
}

func workloads(objects []runtime.Object) (all []workload) {
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			all = append(all, workload{o.ObjectMeta, o.Spec.Template, true})
		case *appsv1.StatefulSet:
			all = append(all, workload{o.ObjectMeta, o.Spec.Template, true})
		case *batchv1.Job:
			all = append(all, workload{o.ObjectMeta, o.Spec.Template, false})
		}
	}
	return all
}

// rules gives what is against the rules of the house, which no schema knows.
func rules(objects []runtime.Object) (problems []error) {
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	accounts := map[string]bool{}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Secret:
			refuse("Secret %s is written down; only its name may be", o.Name)
		case *corev1.ServiceAccount:
			accounts[o.Name] = o.AutomountServiceAccountToken != nil && !*o.AutomountServiceAccountToken
		case *policyv1.PodDisruptionBudget:
			if (o.Spec.MaxUnavailable == nil) == (o.Spec.MinAvailable == nil) {
				refuse("PodDisruptionBudget %s: want exactly one of maxUnavailable and minAvailable", o.Name)
			}
		}
	}
	restricted, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return []error{err}
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, w := range workloads(objects) {
		spec := w.pod.Spec
		for _, r := range restricted.EvaluatePod(level, &w.pod.ObjectMeta, &spec) {
			if !r.Allowed {
				refuse("%s is not restricted: %s: %s", w.meta.Name, r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
		if !accounts[spec.ServiceAccountName] || spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			refuse("%s: want a service account of its own whose token is not mounted", w.meta.Name)
		}
		for _, c := range spec.Containers {
			if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				refuse("%s: the root file system of %s can be written", w.meta.Name, c.Name)
			}
			if w.serv && (c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil) {
				refuse("%s: %s wants all three probes", w.meta.Name, c.Name)
			}
		}
		if w.pod.Labels[component] == "service" {
			for _, err := range service(spec) {
				refuse("%s: %w", w.meta.Name, err)
			}
		}
	}
	return append(problems, public(objects)...)
}

// public checks that the user service knows where browsers find the shop: at the host of the Ingress, where there is one.
func public(objects []runtime.Object) (problems []error) {
	url, door := "", ""
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			for _, e := range o.Spec.Template.Spec.Containers[0].Env {
				if o.Name == "user" && e.Name == "PUBLIC_URL" {
					url = e.Value
				}
			}
		case *networkingv1.Ingress:
			door = "https://" + o.Spec.Rules[0].Host
		}
	}
	if url == "" || door != "" && url != door {
		problems = append(problems, fmt.Errorf("user: PUBLIC_URL is %q, want where browsers find the shop: %s", url, door))
	}
	return problems
}

// service checks what the six services must have.
func service(spec corev1.PodSpec) (problems []error) {
	c := spec.Containers[0]
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "admin" {
			problems = append(problems, fmt.Errorf("the %s probe does not ask the admin port", name))
		}
	}
	pause := int64(0)
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
		pause = c.Lifecycle.PreStop.Sleep.Seconds
	}
	grace := spec.TerminationGracePeriodSeconds
	if pause == 0 || grace == nil || *grace <= pause+drainSeconds {
		problems = append(problems, fmt.Errorf("the grace period does not cover preStop and the %d s of a drain", drainSeconds))
	}
	return problems
}
