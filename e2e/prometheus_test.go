package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/process"
	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sigv4"
	"ixmage/internal/grafana"
)

// withoutValue are the expressions that may have no value in TestPrometheus, by a part of them.
var withoutValue = map[string]string{
	"ixmage_rotation_fallback_total":                    "a series begins when S3 refuses a new key, and versitygw mostly accepts it at once",
	`ixmage_transform_jobs_total{outcome="overloaded"}`: "the series begins when the queue is full",
	`ixmage_credential_scope{scope="violated"}`:         "the series has the label of the last result, and no key here can do too much",
}

// TestPrometheus has a real Prometheus scrape ixmage during real traffic, and evaluates every
// query of the dashboard, every recording rule and every alert to a number.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("SKIPPED: PROMETHEUS IS ABSENT: no query of the dashboard was evaluated (apt-get install prometheus)")
	}
	m := newMonitored(t, realS3(t))
	targets, excused := []string{m.admin}, maps.Clone(withoutValue)
	if !m.transforms {
		excused["ixmage_transform_"] = "there is no worker"
	}
	if node := monitoredNode(t); node != nil {
		targets = append(targets, node.admin)
	} else {
		for _, part := range []string{"ixmage_registry_", "ixmage_nodes", "ixmage_lease_held", "ixmage_node_"} {
			excused[part] = "there is no PostgreSQL"
		}
	}
	p := startPrometheus(t, program, targets...)
	expressions := expressionsToCheck(p)
	if len(expressions) < 80 {
		t.Fatalf("only %d expressions", len(expressions))
	}
	missing := maps.Clone(expressions)
	eventually(t, "three scrapes", func() bool { m.traffic(); return p.number(`min(count_over_time(up[1h]))`) >= 3 })
	var waitsFor string
	defer func() {
		if t.Failed() {
			t.Logf("without a value: %s of %s", waitsFor, expressions[waitsFor])
		}
	}()
	eventually(t, "every expression has a value", func() bool {
		m.traffic()
		maps.DeleteFunc(missing, func(expr, _ string) bool { return !math.IsNaN(p.number(expr)) })
		for expr := range missing {
			if excuse(excused, expr) == "" {
				waitsFor = expr
				return false
			}
		}
		return true
	})
	if v := p.number("ixmage_no_such_metric"); !math.IsNaN(v) {
		t.Errorf("a metric that does not exist has the value %v", v)
	}
	for name, match := range map[string]string{"instance": "ixmage_build_info", "alias": "ixmage_http_requests_total"} {
		var values []string
		p.call("/api/v1/label/"+name+"/values?match[]="+match, &values)
		if len(values) == 0 {
			t.Errorf("the variable %s of the dashboard has no values", name)
		}
	}
	for _, r := range p.rules() {
		if r.Health != "ok" {
			t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
		}
	}
}

func excuse(excused map[string]string, expr string) string {
	for part, why := range excused {
		if strings.Contains(expr, part) {
			return why
		}
	}
	return ""
}

// monitored is an ixmage with traffic of every kind that has a metric.
type monitored struct {
	*server
	transforms bool
	round      int
}

func newMonitored(t *testing.T, g *gateway.Server) *monitored {
	t.Helper()
	bucket, account := media(t, g), accountAlone(t, iam.Config{})
	account.put("web/a.png")
	var args []string
	t.Run("worker", func(t *testing.T) { args = transforming(t) }) // its absence skips this alone
	m := &monitored{transforms: args != nil, server: startProvisioning(t, g, append(args,
		"--assume-roles", anyRole, "--sts-endpoint", account.besideGateway(t, g),
		"--cache-memory", "12MiB", "--cache-disk", "64MiB", "--canary-interval", "500ms", "--reconcile-interval", "500ms",
		"--provision-verify-interval", "20ms", "--breaker-failures", "2",
	)...)}
	account.register(m.server)
	m.create(account.alias("role", "web/", nil))
	body := provisionBody(g, "shop", bucket)
	body["rotate_every"] = "2160h"
	m.operateWell(http.MethodPost, "/api/v1/provision", body)
	// It waits for the end of the previous key, so an operation runs.
	if r := m.api(http.MethodPost, "/api/v1/credentials/shop/rotate", nil); r.StatusCode != http.StatusAccepted {
		t.Fatalf("rotate: %s: %s", r.Status, r.body)
	}
	fake := s3.New(t)
	fake.CreateBucket("media", "")
	for i := range 20 {
		fake.Put("media", fmt.Sprintf("%d.png", i), s3.Object{Body: bytesOf(1<<20, "monitored"), ContentType: "image/png"})
	}
	fake.Put("media", "noon.jpg", noon(t))
	fake.Put("media", "large.png", s3.Object{Body: bytesOf(16<<20, "monitored"), ContentType: "image/png"})
	m.createOn("fake", fake.URL, "media")
	m.createOn("other", fake.URL, "media")
	m.adminCall(http.MethodPatch, "/api/v1/aliases/fake", map[string]any{"transforms": "open"}, http.StatusOK)
	m.createOn("refused", g.S3URL, bucket)
	m.createOn("away", "http://127.0.0.1:1", "media")
	return m
}

// monitoredNode is a server that has the metrics of nodes, nil without PostgreSQL.
func monitoredNode(t *testing.T) *server {
	t.Helper()
	var database *postgres.Server
	t.Run("PostgreSQL", func(t *testing.T) { database = postgres.Shared(t) }) // its absence skips this alone
	if database == nil {
		return nil
	}
	return start(t, "--store", database.Database(t), "--node", "monitored")
}

// besideGateway is the URL of an STS that gives sessions to the user of the account, and leaves
// other keys to the gateway.
func (a *account) besideGateway(t testing.TB, g *gateway.Server) string {
	t.Helper()
	var proxies [2]*httputil.ReverseProxy
	for i, to := range []string{a.URL, g.IAMURL} {
		target, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		proxies[i] = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is part of the signature
		}}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sigv4.Parse(r.Header.Get("Authorization")).KeyID == a.user.AccessKeyID {
			proxies[0].ServeHTTP(w, r)
		} else {
			proxies[1].ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// traffic sends hits, misses, answers of 404 and 502, evictions by two aliases, and a client
// that leaves; and it purges.
func (m *monitored) traffic() {
	m.t.Helper()
	m.round++
	for range 3 {
		m.get("/shop/a.png")
		m.head("/shop/b.png")
		m.get("/role/a.png")
	}
	m.get("/shop/a.png", "Range", "bytes=0-9")
	m.get(fmt.Sprintf("/shop/missing-%d.png", m.round))
	m.get("/no-such-alias/a.png")
	m.get("/refused/web/a.png")
	m.get(fmt.Sprintf("/away/%d.png", m.round))
	for _, name := range []string{"fake", "other"} {
		for i := range 6 {
			m.get(fmt.Sprintf("/%s/%d.png", name, (m.round+i)%20))
		}
	}
	m.get(fmt.Sprintf("/fake/noon.jpg?w=%d", 10+m.round))
	m.get("/other/noon.jpg?h=10&sig=none")
	leaver := sendGet(m.t, m.public, "/fake/large.png")
	if _, err := leaver.Read(make([]byte, 100)); err == nil {
		leaver.(*net.TCPConn).SetLinger(0)
	}
	leaver.Close()
	m.api(http.MethodPost, "/api/v1/purge", map[string]any{"alias": "shop", "key": "b.png", "hard": true})
}

// expressionsToCheck are the queries of the dashboard with their variables filled in, and the
// expressions of the rules, with the place of each. A comparison of an alert gives 0 or 1
// instead of leaving series out.
func expressionsToCheck(p *prometheus) map[string]string {
	p.t.Helper()
	found := map[string]string{}
	variables := strings.NewReplacer("$instance", ".*", "$alias", ".*", "$__rate_interval", "1m")
	for _, panel := range grafana.New().Panels {
		for _, target := range panel.Targets {
			found[variables.Replace(target.Expr)] = "panel " + panel.Title
		}
	}
	for _, r := range p.rules() {
		expr := r.Query
		if r.Type == "alerting" {
			expr = strings.NewReplacer(" > ", " > bool ", " < ", " < bool ", " == ", " == bool ").Replace(expr)
		}
		found[expr] = "rule " + r.Name
	}
	return found
}

const rulesFile = "../docs/alerts.yaml"

// prometheus is a running Prometheus.
type prometheus struct {
	t    *testing.T
	addr string
}

func startPrometheus(t *testing.T, program string, targets ...string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	writeFile(t, config, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: ixmage, static_configs: [{targets: ["%s"]}]}]
`, rules, strings.Join(targets, `", "`)), 0o600)
	p := &prometheus{t: t, addr: freeAddr(t)}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.addr, "--log.level=warn")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	child, err := process.Start("prometheus", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Kill()
		if t.Failed() {
			t.Logf("prometheus: %s", child.Output())
		}
	})
	eventually(t, "Prometheus is ready", func() bool {
		r := single(p.addr, http.MethodGet, "/-/ready")
		return r.Response != nil && r.StatusCode == http.StatusOK
	})
	return p
}

// call decodes the data of an answer of the API.
func (p *prometheus) call(path string, data any) {
	p.t.Helper()
	resp, err := client(p.t).Get("http://" + p.addr + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s: %s: %v, %s", path, resp.Status, err, answer.Error)
	}
}

// number evaluates an expression, and returns one of its values, NaN if it has none.
func (p *prometheus) number(expr string) float64 {
	p.t.Helper()
	var data struct {
		Result []struct {
			Value [2]any
		}
	}
	p.call("/api/v1/query?query="+url.QueryEscape(expr), &data)
	for _, series := range data.Result {
		if text, ok := series.Value[1].(string); ok {
			if v, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) {
				return v
			}
		}
	}
	return math.NaN()
}

// rule is a rule as Prometheus read it.
type rule struct{ Name, Query, Type, Health, LastError string }

// rules are the rules of docs/alerts.yaml.
func (p *prometheus) rules() (all []rule) {
	p.t.Helper()
	var data struct{ Groups []struct{ Rules []rule } }
	p.call("/api/v1/rules", &data)
	for _, g := range data.Groups {
		all = append(all, g.Rules...)
	}
	if want := strings.Count(string(readFile(p.t, rulesFile)), "expr: "); len(all) != want {
		p.t.Fatalf("Prometheus has %d rules of %d", len(all), want)
	}
	return all
}
