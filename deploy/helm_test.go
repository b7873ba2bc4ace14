package deploy

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

const chartDir = "helm/ixmage"

// valueSets are the values of testdata/values, by name.
func valueSets(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no value sets: %v", err)
	}
	sets := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sets[strings.TrimSuffix(filepath.Base(f), ".yaml")] = string(text)
	}
	return sets
}

// render renders the chart as helm template does, without a cluster. It returns the text of
// each template that is not empty.
func render(values string) (map[string]string, error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		return nil, err
	}
	options := chartutil.ReleaseOptions{Name: "ixmage", Namespace: "pictures", IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(chart, given, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	e := engine.Engine{Strict: true}
	texts, err := e.Render(chart, all)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(texts, func(_, text string) bool { return strings.TrimSpace(text) == "" })
	return texts, nil
}

// objects decodes every object of the templates into the types of its API, and refuses fields
// that these do not have and fields that stand twice.
func objects(t *testing.T, texts map[string]string) []runtime.Object {
	t.Helper()
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, monitoring.AddToScheme} {
		if err := add(all); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(all, serializer.EnableStrict).UniversalDeserializer()
	var list []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, doc := range documents(t, texts[name]) {
			object, _, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, doc)
				continue
			}
			list = append(list, object)
		}
	}
	return list
}

func documents(t *testing.T, text string) [][]byte {
	t.Helper()
	var list [][]byte
	reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(text)))
	defer reader.Close()
	buf := make([]byte, 1<<20)
	for {
		n, err := reader.Read(buf)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if doc := bytes.Clone(buf[:n]); len(bytes.TrimSpace(doc)) > 0 {
			list = append(list, doc)
		}
	}
}

// find returns the objects of one type.
func find[T runtime.Object](list []runtime.Object) []T {
	var found []T
	for _, o := range list {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	return found
}

// TestChart renders the chart with each set of values: every object is valid, and nothing changes
// without a change of the golden file.
func TestChart(t *testing.T) {
	t.Parallel()
	for name, values := range valueSets(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			texts, err := render(values)
			if err != nil {
				t.Fatal(err)
			}
			checkGolden(t, name, texts)
			list := objects(t, texts)
			sets := find[*apps.StatefulSet](list)
			if len(sets) != 1 {
				t.Fatalf("%d StatefulSets", len(sets))
			}
			pod := &sets[0].Spec.Template
			checkPod(t, &pod.Spec)
			checkVolumes(t, sets[0])
			checkEnd(t, &pod.Spec)
			checkSelectors(t, list, pod)
			checkAdmin(t, list, &pod.Spec)
			checkProgram(t, &pod.Spec)
		})
	}
}

func checkGolden(t *testing.T, name string, texts map[string]string) {
	t.Helper()
	alerts, err := os.ReadFile("../docs/alerts.yaml") // TestChartAlerts has them
	if err != nil {
		t.Fatal(err)
	}
	indented := strings.ReplaceAll("\n"+string(alerts), "\n", "\n  ")
	var all bytes.Buffer
	for _, template := range slices.Sorted(maps.Keys(texts)) {
		all.WriteString("# Source: " + template + "\n" + strings.TrimSpace(strings.Replace(texts[template], indented, " docs/alerts.yaml", 1)) + "\n---\n")
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, all.Bytes()) {
		t.Errorf("the rendered chart differs from %s; look at the difference after: go -C deploy test . -update", file)
	}
}

// checkPod checks what the Pod Security Standard "restricted" asks for, and more.
func checkPod(t *testing.T, pod *core.PodSpec) {
	t.Helper()
	s, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if s == nil || c == nil {
		t.Fatal("no security context")
	}
	for what, ok := range map[string]bool{
		"runs as another user than root":            s.RunAsNonRoot != nil && *s.RunAsNonRoot && s.RunAsUser != nil && *s.RunAsUser == 65532,
		"keeps the modes of the data folder":        s.FSGroupChangePolicy != nil && *s.FSGroupChangePolicy == core.FSGroupChangeOnRootMismatch,
		"seccomp profile of the runtime":            s.SeccompProfile != nil && s.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault,
		"read-only root":                            c.ReadOnlyRootFilesystem != nil && *c.ReadOnlyRootFilesystem,
		"no new rights":                             c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation,
		"no capabilities":                           c.Capabilities != nil && slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) && len(c.Capabilities.Add) == 0,
		"no token of the API of Kubernetes":         pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken,
		"no variables of Services":                  pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks,
		"nothing of the host":                       !pod.HostNetwork && !pod.HostPID && !pod.HostIPC,
		"a limit of memory":                         !pod.Containers[0].Resources.Limits.Memory().IsZero(),
		"a request of memory":                       !pod.Containers[0].Resources.Requests.Memory().IsZero(),
		"probes of health, readiness and the start": probePaths(&pod.Containers[0]) == "/-/healthz /-/readyz /-/healthz",
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
}

func probePaths(c *core.Container) string {
	var paths []string
	for _, p := range []*core.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Port.StrVal != "http" {
			return ""
		}
		paths = append(paths, p.HTTPGet.Path)
	}
	return strings.Join(paths, " ")
}

// checkVolumes checks that each mount has its volume, each volume its mount, and that secrets
// are read by root and the group of the pod only.
func checkVolumes(t *testing.T, set *apps.StatefulSet) {
	t.Helper()
	pod := &set.Spec.Template.Spec
	var have, want []string
	for _, v := range pod.Volumes {
		have = append(have, v.Name)
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("the secret volume %s has another mode than 0440", v.Name)
		}
	}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		have = append(have, claim.Name)
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		want = append(want, m.Name)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("volumes %v, mounts of %v", have, want)
	}
}

// checkEnd checks that a pod has the time to end by itself.
func checkEnd(t *testing.T, pod *core.PodSpec) {
	t.Helper()
	c := &pod.Containers[0]
	i := slices.IndexFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--shutdown-timeout=") })
	drain, err := time.ParseDuration(strings.TrimPrefix(c.Args[i], "--shutdown-timeout="))
	if err != nil {
		t.Fatal(err)
	}
	pause := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if all := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second; pause < time.Second || pause+drain+2*time.Second > all {
		t.Errorf("a pod ends in %s, but needs %s before SIGTERM, %s to drain and 2s", all, pause, drain)
	}
}

// checkSelectors checks that Services and policies select the pod, and that their ports are its own.
func checkSelectors(t *testing.T, list []runtime.Object, pod *core.PodTemplateSpec) {
	t.Helper()
	ports := map[string]bool{}
	for _, p := range pod.Spec.Containers[0].Ports {
		ports[p.Name] = true
	}
	selects := func(what string, selector map[string]string) {
		if !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) || len(selector) == 0 {
			t.Errorf("%s does not select the pod: %v, %v", what, selector, pod.Labels)
		}
	}
	for _, s := range find[*core.Service](list) {
		selects("the Service "+s.Name, s.Spec.Selector)
		for _, p := range s.Spec.Ports {
			if !ports[p.TargetPort.StrVal] {
				t.Errorf("the Service %s has no port of the pod: %v", s.Name, p.TargetPort)
			}
		}
	}
	for _, p := range find[*networking.NetworkPolicy](list) {
		selects("the NetworkPolicy", p.Spec.PodSelector.MatchLabels)
		for _, rule := range p.Spec.Ingress {
			if !ports[rule.Ports[0].Port.StrVal] {
				t.Errorf("the NetworkPolicy has no port of the pod: %v", rule.Ports)
			}
		}
	}
	for _, m := range find[*monitoring.ServiceMonitor](list) {
		matches := slices.ContainsFunc(find[*core.Service](list), func(s *core.Service) bool {
			return labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) && s.Spec.Ports[0].Name == m.Spec.Endpoints[0].Port
		})
		if !matches {
			t.Error("the ServiceMonitor selects no Service")
		}
	}
}

// checkAdmin checks that nothing of the cluster reaches the admin listener unless that is asked for
// and encrypted, or said to be meant.
func checkAdmin(t *testing.T, list []runtime.Object, pod *core.PodSpec) {
	t.Helper()
	c := &pod.Containers[0]
	listen := value(c, "IXMAGE_ADMIN_LISTEN")
	services := slices.DeleteFunc(find[*core.Service](list), func(s *core.Service) bool { return s.Spec.Ports[0].TargetPort.StrVal != "admin" })
	protected := slices.Contains(c.Args, "--admin-insecure") ||
		slices.Contains(c.Args, "--admin-tls-cert=/etc/ixmage/tls/tls.crt") && slices.Contains(c.Args, "--admin-tls-key=/etc/ixmage/tls/tls.key")
	switch {
	case listen == "127.0.0.1:8081" && len(services) == 0 && !slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == "admin" }):
	case listen == ":8081" && len(services) == 1 && protected:
	default:
		t.Errorf("the admin listener is on %q, with %d Services, protected: %t", listen, len(services), protected)
	}
	if services := find[*networking.Ingress](list); len(services) == 1 {
		for _, r := range services[0].Spec.Rules {
			if name := r.HTTP.Paths[0].Backend.Service.Name; name != "ixmage" {
				t.Errorf("the Ingress leads to the Service %s", name)
			}
		}
	}
}

func value(c *core.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

var flagName = regexp.MustCompile(`^--[a-z0-9-]+(=|$)`)

// checkProgram gives the arguments and variables of the container to the program, with the mounted
// files in another folder. A wrong log level at their end is the only mistake it finds.
func checkProgram(t *testing.T, pod *core.PodSpec) {
	t.Helper()
	c := &pod.Containers[0]
	etc := mountedFiles(t)
	here := func(text string) string { return strings.ReplaceAll(text, "/etc/ixmage/", etc+"/") }
	help := ixmage(t, nil, "serve", "--help").stdout
	var args, env []string
	for _, a := range c.Args {
		if name := flagName.FindString(a); name != "" && !strings.Contains(help, strings.TrimSuffix(name, "=")) {
			t.Errorf("ixmage serve --help does not have the flag of %s", a)
		}
		args = append(args, here(a))
	}
	from := map[string]string{"IXMAGE_STORE": "postgres://ixmage:x@db.example.com/ixmage?sslmode=verify-full", "IXMAGE_NODE": "ixmage-0"}
	for _, e := range c.Env {
		switch value := from[e.Name]; {
		case e.ValueFrom == nil:
			env = append(env, e.Name+"="+here(e.Value))
		case value != "":
			env = append(env, e.Name+"="+value)
		}
	}
	got := ixmage(t, env, append(args, "--log-level=none")...)
	if want := "ixmage: --log-level"; got.code != 2 || !strings.HasPrefix(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("the program refuses the configuration of the container: status %d\n%s", got.code, got.stderr)
	}
}

// TestChartFleet: each pod is a node by its own name and with a volume of its own, the database is
// that of a Secret, the nodes have addresses, and no more than one stops at a time.
func TestChartFleet(t *testing.T) {
	t.Parallel()
	texts, err := render(valueSets(t)["fleet"])
	if err != nil {
		t.Fatal(err)
	}
	list := objects(t, texts)
	set := find[*apps.StatefulSet](list)[0]
	pod := &set.Spec.Template.Spec
	from := map[string]*core.EnvVarSource{}
	for _, e := range pod.Containers[0].Env {
		from[e.Name] = e.ValueFrom
	}
	store, node := from["IXMAGE_STORE"], from["IXMAGE_NODE"]
	budgets := find[*policy.PodDisruptionBudget](list)
	services := slices.DeleteFunc(find[*core.Service](list), func(s *core.Service) bool { return s.Name != set.Spec.ServiceName })
	for what, ok := range map[string]bool{
		"three pods":                        *set.Spec.Replicas == 3,
		"that do not wait for one another":  set.Spec.PodManagementPolicy == apps.ParallelPodManagement,
		"the database by Secret":            store != nil && store.SecretKeyRef != nil && store.SecretKeyRef.Name == "ixmage-store" && store.SecretKeyRef.Key == "url",
		"the node by the name of the pod":   node != nil && node.FieldRef != nil && node.FieldRef.FieldPath == "metadata.name",
		"a volume for each pod":             len(set.Spec.VolumeClaimTemplates) == 1,
		"the key set of all":                slices.Contains(pod.Containers[0].Args, "--master-key=file:/etc/ixmage/master/master.keyset"),
		"pods on different machines":        len(pod.TopologySpreadConstraints) == 1 && labels.SelectorFromSet(pod.TopologySpreadConstraints[0].LabelSelector.MatchLabels).Matches(labels.Set(set.Spec.Template.Labels)),
		"addresses of the nodes":            len(services) == 1 && services[0].Spec.ClusterIP == core.ClusterIPNone && services[0].Spec.PublishNotReadyAddresses,
		"one at a time stops for a drain":   len(budgets) == 1 && budgets[0].Spec.MaxUnavailable.IntValue() == 1,
		"a pause between pods of an update": set.Spec.MinReadySeconds >= 5,
		"the way to the database":           strings.Contains(texts["ixmage/templates/networkpolicy.yaml"], "port: 6432"),
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
}

// TestChartRefuses: values that cannot work, or would open the admin listener, end the rendering.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, values, says string }{
		{"admin without TLS", "admin: {expose: true}", "admin.tls.existingSecret"},
		{"unknown name", "admn: {expose: true}", "admn"},
		{"unknown name within", "admin: {exposed: true}", "exposed"},
		{"text for a switch", "provision: {enabled: 'yes'}", "enabled"},
		{"several replicas", "replicas: 2", "store.existingSecret"},
		{"no replica", "replicas: 0", "replicas"},
		{"a store without a key set", "store: {existingSecret: x}", "masterKey.existingSecret"},
		{"a store with a KMS key", "store: {existingSecret: x}\nmasterKey: {kmsKeyArn: 'arn:aws:kms:eu-west-1:123456789012:key/x'}", "masterKey.existingSecret"},
		{"one volume for several pods", "replicas: 2\nstore: {existingSecret: x}\nmasterKey: {existingSecret: x}\npersistence: {existingClaim: x}", "existingClaim"},
		{"level", "log: {level: INFO}", "level"},
		{"size", "cache: {memory: 256MB}", "memory"},
		{"duration", "shutdownTimeout: '30'", "shutdownTimeout"},
		{"no flag", "extraArgs: [serve]", "extraArgs"},
		{"port", "service: {port: 0}", "port"},
		{"provisioning of no bucket", "provision: {enabled: true}", "provision.buckets"},
		{"no KMS key", "masterKey: {kmsKeyArn: alias/x}", "kmsKeyArn"},
		{"two key sets", "masterKey: {existingSecret: x, kmsKeyArn: 'arn:aws:kms:eu-west-1:123456789012:key/x'}", "contradict"},
		{"ingress without a host", "ingress: {enabled: true}", "ingress.hosts"},
		{"digest", "image: {digest: latest}", "digest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := render(tc.values); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want an error with %q", err, tc.says)
			}
		})
	}
}

// TestChartAlerts: the rules of the chart are those that are tested with promtool.
func TestChartAlerts(t *testing.T) {
	t.Parallel()
	texts, err := render("metrics: {prometheusRule: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	rules := find[*monitoring.PrometheusRule](objects(t, texts))
	if len(rules) != 1 {
		t.Fatalf("%d PrometheusRules", len(rules))
	}
	text, err := os.ReadFile("../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want monitoring.PrometheusRuleSpec
	if err := sigsyaml.UnmarshalStrict(text, &want); err != nil {
		t.Fatal(err)
	}
	got, _ := sigsyaml.Marshal(rules[0].Spec)
	wanted, _ := sigsyaml.Marshal(want)
	if !bytes.Equal(got, wanted) || len(want.Groups) == 0 {
		t.Errorf("the rules differ from docs/alerts.yaml:\n%s", got)
	}
}

// TestChartMemory: the default limit holds what docs/operations.md asks for beside the cache.
func TestChartMemory(t *testing.T) {
	t.Parallel()
	texts, err := render("")
	if err != nil {
		t.Fatal(err)
	}
	c := find[*apps.StatefulSet](objects(t, texts))[0].Spec.Template.Spec.Containers[0]
	if !slices.Contains(c.Args, "--cache-memory=50%") {
		t.Errorf("arguments %v", c.Args)
	}
	cache := c.Resources.Limits.Memory().Value() / 2
	connections := int64(4000 * 30 << 10)
	if need := resource.NewQuantity(cache+128<<20+connections, resource.BinarySI); c.Resources.Limits.Memory().Cmp(*need) < 0 {
		t.Errorf("the limit %s is less than %s", c.Resources.Limits.Memory(), need)
	}
}

// TestChartNotes: the command that makes the first token exists. Status 6: no server is there.
func TestChartNotes(t *testing.T) {
	t.Parallel()
	texts, err := render("")
	if err != nil {
		t.Fatal(err)
	}
	notes := texts["ixmage/templates/NOTES.txt"]
	_, command, found := strings.Cut(notes, " -- /ixmage ")
	if !found {
		t.Fatalf("no command in\n%s", notes)
	}
	command, _, _ = strings.Cut(command, "\n")
	env := []string{"IXMAGE_ADMIN_URL=http://127.0.0.1:1", "IXMAGE_ADMIN_TOKEN=0123456789abcdef"}
	if got := ixmage(t, env, strings.Fields(command)...); got.code != 6 {
		t.Errorf("ixmage %s: status %d\n%s", command, got.code, got.stderr)
	}
}
