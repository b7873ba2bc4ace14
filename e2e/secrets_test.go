package e2e

import (
	"bytes"
	"crypto/rand"
	"database/sql" //nolint:depguard // a registry is damaged by hand
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// newSecret returns a secret in the form of AWS's.
func newSecret() string {
	raw := make([]byte, 30)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// leakEnv runs a server and records all its output.
type leakEnv struct {
	*server
	t       *testing.T
	s3      *s3.Server
	seen    places
	secrets map[string]string // by what they are
	foreign string            // the id of a key that somebody else made
}

// TestNoSecretLeaves takes a server through good and bad use, and then searches all its
// output and files for every secret.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	l := &leakEnv{t: t, s3: s3.New(t), seen: places{}, secrets: map[string]string{}}
	data := filepath.Join(t.TempDir(), "data")

	l.begin(startIn(t, data))
	l.registers()
	l.serves()
	l.speaksNonsense()
	l.breaksDown()
	l.end()

	l.forges(data)
	l.begin(startIn(t, data, "--metrics-listen", "127.0.0.1:0"))
	if r := l.sees(l.get("/forged/a.png")); r.StatusCode < http.StatusInternalServerError {
		t.Errorf("a forged secret is answered %s", r.Status)
	}
	l.serves()
	l.end()

	l.refusesToStart(data)
	l.search()
}

// secret creates a secret.
func (l *leakEnv) secret(what string) string {
	s := newSecret()
	l.secrets[what] = s
	return s
}

func (l *leakEnv) begin(s *server) {
	l.server = s
	l.secrets["the admin token"] = s.token
	var set struct {
		Key []struct{ KeyData struct{ Value string } }
	}
	if err := json.Unmarshal(readFile(l.t, filepath.Join(s.data, "master.keyset")), &set); err != nil || len(set.Key) != 1 {
		l.t.Fatalf("the key set has %d keys, %v", len(set.Key), err)
	}
	raw, err := base64.StdEncoding.DecodeString(set.Key[0].KeyData.Value)
	if err != nil {
		l.t.Fatal(err)
	}
	l.secrets["the master key"] = string(raw[len(raw)-32:]) // the key itself ends the message that it is in
}

// end records what exists only while the server runs, stops it, and records the rest.
func (l *leakEnv) end() {
	for _, addr := range []string{l.admin, l.metrics} {
		if addr != "" {
			l.sees(l.do(http.MethodGet, "http://"+addr+"/metrics", nil))
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		l.seen.add("process "+file, readFile(l.t, fmt.Sprintf("/proc/%d/%s", l.process.Pid(), file)))
	}
	l.seen.folder(l.t, l.data)
	if code := l.stop(); code != 0 {
		l.t.Errorf("exit status is %d", code)
	}
	l.seen.folder(l.t, l.data)
	l.seen.add("log", []byte(l.output()))
}

// sees records an answer.
func (l *leakEnv) sees(r *response) *response {
	var b bytes.Buffer
	r.Header.Write(&b)
	b.Write(r.body)
	l.seen.add("answer to "+r.Request.Method, b.Bytes())
	return r
}

// call makes a call of the admin API and checks its status.
func (l *leakEnv) call(status int, method, path string, body any, headers ...string) {
	l.t.Helper()
	if r := l.sees(l.api(method, path, body, headers...)); r.StatusCode != status {
		l.t.Errorf("%s %s: %s, want %d: %s", method, path, r.Status, status, r.body)
	}
}

// pair is a key pair in JSON.
func pair(id, secret string) map[string]any {
	return map[string]any{"access_key_id": id, "secret_access_key": secret}
}

// alias is the body of a request that creates an alias.
func (l *leakEnv) alias(name, secret string) map[string]any {
	return map[string]any{
		"name": name, "bucket": "planted-bucket", "endpoint": l.s3.URL, "path_style": true,
		"credential": pair("AKIA"+strings.ToUpper(strings.ReplaceAll(name, "-", "")), secret),
	}
}

// registers makes all calls of the admin API that take a secret, successfully and with
// every failure, and some with a secret in the wrong place.
func (l *leakEnv) registers() {
	const aliases, credentials = "/api/v1/aliases", "/api/v1/credentials"
	shop := l.secret("the key of shop")
	l.s3.Allow(alias.KeyPair{AccessKeyID: "AKIASHOP", SecretAccessKey: alias.NewSecret(shop)}, "planted-bucket", "")
	l.call(201, "POST", aliases, l.alias("shop", shop))
	l.call(201, "POST", aliases, l.alias("planted-alias", l.secret("the key of planted-alias")))
	l.call(201, "POST", aliases, l.alias("forged", l.secret("the key of forged")))
	l.call(409, "POST", aliases, l.alias("shop", l.secret("the key of shop, again")))
	l.call(400, "POST", aliases, l.alias("Bad Name", l.secret("the key of a bad name")))
	l.call(400, "POST", aliases, l.alias("long", strings.Repeat(l.secret("a long key"), 20)))
	l.call(400, "POST", aliases, l.alias("short", "\t"+l.secret("a key with a tab")))
	swapped := l.alias("swapped", "AKIASWAPPED")
	swapped["credential"] = pair("/"+l.secret("a key in the wrong field"), "AKIASWAPPED")
	l.call(400, "POST", aliases, swapped)
	for _, field := range []string{"bucket", "prefix", "region", "endpoint", "bucket_owner", "ttl", "canary", "enabled", "unknown", "state", "credential"} {
		body := l.alias("misplaced", l.secret("a key beside a wrong "+field))
		body[field] = "\\" + l.secret("a key as "+field)
		l.call(400, "POST", aliases, body)
		l.call(400, "PATCH", aliases+"/shop", map[string]any{field: "\\" + l.secret("a key patched in as "+field)})
	}
	l.call(400, "PATCH", aliases+"/shop", map[string]any{"credential": pair("AKIASHOP", l.secret("a key patched in"))})
	l.call(400, "POST", aliases, `{"name":"x","credential":{"secret_access_key":"`+l.secret("a key in broken JSON"))
	l.call(415, "POST", aliases, "secret_access_key="+l.secret("a key in a form"), "Content-Type", "text/plain")
	l.call(400, "GET", aliases+"?limit="+url.QueryEscape(l.secret("a key as a limit")), nil)
	l.call(401, "POST", aliases, l.alias("anybody", l.secret("a key of somebody else")), "Authorization", "Bearer "+l.secret("a wrong token"))
	l.call(401, "GET", aliases, nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("admin:"+l.token)))

	l.call(201, "POST", credentials, map[string]any{"name": "spare", "access_key_id": "AKIASPARE", "secret_access_key": l.secret("the key of spare")})
	l.call(409, "POST", credentials, map[string]any{"name": "spare", "access_key_id": "AKIASPARE", "secret_access_key": l.secret("the key of spare, again")})
	l.call(400, "POST", credentials, map[string]any{"name": "none", "kind": "anonymous", "secret_access_key": l.secret("a key of nobody")})
	l.call(200, "PUT", credentials+"/spare", pair("AKIASPARE2", l.secret("the second key of spare")))
	l.call(412, "PUT", credentials+"/spare", pair("AKIASPARE3", l.secret("a key too late")), "If-Match", `"1"`)
	l.call(404, "PUT", credentials+"/none", pair("AKIANONE", l.secret("a key for nothing")))
	l.call(400, "PUT", credentials+"/spare", pair("", l.secret("a key without an id")))
	l.call(409, "DELETE", credentials+"/shop", nil)
	for _, path := range []string{aliases, aliases + "/shop", credentials, credentials + "/spare", credentials + "/shop"} {
		l.call(200, "GET", path, nil)
	}
	l.signs()
	l.call(204, "DELETE", credentials+"/spare", nil)
	l.call(204, "DELETE", aliases+"/planted-alias", nil)
	l.call(201, "POST", aliases, l.alias("planted-alias", l.secret("the new key of planted-alias")))
}

// signs makes signing keys. Each is in one answer, which is not recorded.
func (l *leakEnv) signs() {
	const shop = "/api/v1/aliases/shop"
	for _, what := range []string{"a deleted signing key", "a signing key"} {
		k := l.newSigningKey("shop")
		raw, _ := base64.RawURLEncoding.DecodeString(k.Secret)
		l.secrets[what], l.secrets[what+", its bytes"] = k.Secret, string(raw)
		if strings.HasPrefix(what, "a deleted") {
			l.call(204, "DELETE", shop+"/signing-keys/"+k.KID, nil)
			l.call(404, "DELETE", shop+"/signing-keys/"+k.KID, nil)
		}
	}
	l.call(400, "POST", shop+"/signing-keys", map[string]any{"secret": l.secret("a signing key of the client's")})
	l.call(404, "DELETE", shop+"/signing-keys/"+hex.EncodeToString([]byte(l.secret("a signing key as a kid"))), nil)
	l.call(400, "PATCH", shop, map[string]any{"signing_keys": l.secret("a signing key patched in")})
	l.call(400, "PATCH", shop, map[string]any{"templates": map[string]any{"t": "sig=" + l.secret("a signing key in a template")}})
	l.call(200, "POST", shop+"/sign", map[string]any{"path": "/shop/a.png"})
	l.call(400, "POST", shop+"/sign", map[string]any{"path": "/shop/#" + l.secret("a signing key as a path")})
	for _, path := range []string{shop, shop + "/signing-keys", "/api/v1/audit", "/api/v1/explain?path=/shop/a.png"} {
		l.call(200, "GET", path, nil)
	}
}

// serves requests pictures, good and broken ones, with secrets in the requests.
func (l *leakEnv) serves() {
	l.s3.Put("planted-bucket", "a.png", s3.Object{Body: bytesOf(4096, "secrets"), ContentType: "image/png"})
	carry := []string{"Authorization", "Bearer " + l.token, "Cookie", "token=" + l.token}
	for _, path := range []string{"/shop/a.png", "/shop/a.png", "/shop/a.png?token=" + l.token, "/shop/" + l.token, "/" + l.token[:40] + "/a.png", "/planted-alias/a.png"} {
		l.sees(l.get(path, carry...))
		l.sees(l.head(path, carry...))
	}
	if r := l.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		l.t.Errorf("the picture is %s", r.Status)
	}
	faults := map[string]*s3.Fault{
		"cut": s3.ResetAfter(100), "html": s3.HTML404(), "xml": s3.XML200(), "sum": s3.WrongChecksum(),
	}
	for code := range s3.Codes() {
		faults[code] = s3.Fail(code)
	}
	for name, fault := range faults {
		l.s3.Next("planted-bucket", name+".png", fault, fault, fault)
		l.s3.Put("planted-bucket", name+".png", s3.Object{Body: bytesOf(4096, name), ContentType: "image/png"})
		l.sees(l.get("/shop/"+name+".png", carry...))
	}
}

// speaksNonsense sends invalid requests with the token in them to both listeners.
func (l *leakEnv) speaksNonsense() {
	bearer := "Authorization: Bearer " + l.token + "\r\n"
	for _, text := range []string{
		"GET /api/v1/aliases HTTP/1.1\r\nHost: x\r\n" + bearer + "No colon\r\n\r\n",
		"GET /api/v1/aliases HTTP/1.1\r\n" + bearer + " folded\r\n\r\n",
		"GET /api/v1/aliases HTTP/1.1\r\nHost: x\r\n" + bearer + "Content-Length: " + l.token + "\r\n\r\n",
		"GET /api/v1/aliases HTTP/1.1\r\nHost: x\r\n" + bearer + strings.Repeat("X-Large: "+l.token+"\r\n", 1000) + "\r\n",
		"POST /api/v1/aliases HTTP/1.1\r\nHost: x\r\n" + bearer + "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + l.token,
		"GET /api/v1/aliases HTTP/" + l.token + "\r\n\r\n",
		"GET " + l.token + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://" + l.token + "/%zz HTTP/1.1\r\nHost: " + l.token + "\r\n" + bearer + "\r\n",
		l.token + " / HTTP/1.1\r\nHost: x\r\n\r\n",
		bearer + "\r\n",
		"POST /api/v1/aliases HTTP/1.1\r\nHost: x\r\n" + bearer + "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n" + l.token + "\r\n",
		"GET /api/v1/" + l.token + " HTTP/1.1\r\nHost: x\r\nX: " + l.token + "\x00\r\n" + bearer + "\r\n",
	} {
		for _, addr := range []string{l.public, l.admin} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				l.t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(conn, text)
			conn.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(conn)
			conn.Close()
			l.seen.add("answer to nonsense", answer)
		}
	}
}

// breaksDown drops the tables of the registry under the running server.
func (l *leakEnv) breaksDown() {
	l.sql(l.data, `ALTER TABLE aliases RENAME TO hidden`)
	l.call(500, "GET", "/api/v1/aliases", nil)
	l.call(500, "POST", "/api/v1/aliases", l.alias("late", l.secret("a key that cannot be stored")))
	l.call(500, "PATCH", "/api/v1/aliases/shop", map[string]any{"ttl": "1m"})
	l.sql(l.data, `ALTER TABLE hidden RENAME TO aliases`)
	l.call(200, "GET", "/api/v1/aliases", nil)
}

// forges replaces the sealed secret of one credential by that of another.
func (l *leakEnv) forges(data string) {
	l.sql(data, `UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE name = 'shop') WHERE name = 'forged'`)
}

func (l *leakEnv) sql(data, query string) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "registry.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(l.t.Context(), query); err != nil {
		l.t.Fatal(err)
	}
}

// refusesToStart has secrets in values that the program refuses at start.
func (l *leakEnv) refusesToStart(data string) {
	token := filepath.Join(l.t.TempDir(), "token")
	writeFile(l.t, token, l.secret("a token of two words")+" x", 0o600)
	keyset := filepath.Join(l.t.TempDir(), "keyset")
	writeFile(l.t, keyset, `{"primaryKeyId":1,"key":[{"keyData":{"value":"`+l.secret("a damaged key set")+`"`, 0o600)
	for _, run := range []struct{ env, args []string }{
		{nil, []string{"--admin-token-file", token}},
		{[]string{"IXMAGE_ADMIN_TOKEN=" + l.secret("a token of two lines") + "\nx"}, nil},
		{[]string{"IXMAGE_ADMIN_TOKEN=" + l.secret("a second token")}, []string{"--admin-token-file", token}},
		{nil, []string{"--master-key", "file:" + keyset}},
	} {
		got := runProgram(l.t, run.env, append(serveArgs(data), run.args...)...)
		if got.code == 0 {
			l.t.Errorf("it starts with %q", run.args)
		}
		l.seen.add("refusal to start", []byte(got.stdout+got.stderr))
	}
}

// search searches every place for every secret.
func (l *leakEnv) search() {
	l.hunt()
	// Planted texts are found in every kind of place, so all places were searched.
	l.wantSeen(map[string][]string{
		"planted-alias":                  {"log", "file registry.db ", "answer to GET", "answer to POST"},
		"planted-bucket":                 {"file registry.db-wal ", "answer to GET"},
		"AKIASPARE2":                     {"answer to PUT"},
		`alias="planted-alias"`:          {"answer to GET"},  // metrics
		"/api/v1/aliases/planted":        {"answer to POST"}, // a header
		l.data:                           {"process cmdline"},
		os.Getenv("PATH"):                {"process environ"},
		"https://ixmage.dev/problems/":   {"answer to nonsense"},
		"X-Request-Id":                   {"answer to HEAD"},
		"ASCII without spaces":           {"refusal to start"},
		l.secrets["the admin token"]:     {"file admin-token "},
		l.secrets["the master key"]:      {"file master.keyset "},
		"no such table: aliases":         {"log"},
		"open the secret of credential ": {"log"},
	})
}

// homes are the places where a secret may be.
var homes = map[string]string{
	"the admin token": "file admin-token ", "the master key": "file master.keyset ",
	"the provisioner's key": "process environ ", "the provisioner's wrong key": "process environ ",
}

// hunt searches every place that may not have a secret.
func (l *leakEnv) hunt() {
	l.t.Helper()
	l.t.Logf("%d secrets, %d places", len(l.secrets), len(l.seen))
	for what, secret := range l.secrets {
		for _, place := range l.seen.find(secret) {
			if home := homes[what]; home == "" || !strings.HasPrefix(place, home) {
				l.t.Errorf("%s is in %s", what, place)
			}
		}
	}
}

// wantSeen checks that planted texts are found in every kind of place.
func (l *leakEnv) wantSeen(texts map[string][]string) {
	l.t.Helper()
	for planted, kinds := range texts {
		found := l.seen.find(planted)
		for _, kind := range kinds {
			if !slices.ContainsFunc(found, func(place string) bool { return strings.HasPrefix(place, kind) }) {
				l.t.Errorf("%q is not found in %q", planted, kind)
			}
		}
	}
}

// places are texts in which no secret may be found, by name.
type places map[string][]byte

func (p places) add(name string, text []byte) { p[fmt.Sprintf("%s (%d)", name, len(p))] = text }

// folder adds the present files of a data folder.
func (p places) folder(t *testing.T, dir string) {
	t.Helper()
	for _, path := range filesIn(t, dir) {
		p.add("file "+filepath.Base(path), readFile(t, path))
	}
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	return files
}

// find returns the places that contain a text, in any form.
func (p places) find(text string) []string {
	var found []string
	for name, content := range p {
		for form, needle := range formsOf(text) {
			if bytes.Contains(content, []byte(needle)) {
				found = append(found, name+", "+form)
			}
		}
	}
	slices.Sort(found)
	return found
}

// formsOf returns the encodings in which programs write a text.
func formsOf(text string) map[string]string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string
	}
	forms := map[string]string{
		"as it is": text, "in JSON": string(quoted[1 : len(quoted)-1]), "quoted": strings.Trim(fmt.Sprintf("%q", text), `"`),
		"in a query": url.QueryEscape(text), "in a path": url.PathEscape(text),
		"in hexadecimal": hex.EncodeToString([]byte(text)), "in HEXADECIMAL": strings.ToUpper(hex.EncodeToString([]byte(text))),
	}
	// In base64 three bytes become four letters, so the letters depend on the position of
	// the text. Letters that depend on its neighbours are left out.
	for shift := range 3 {
		code := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		code = code[(shift*8+5)/6 : (shift+len(text))*8/6]
		forms[fmt.Sprintf("in base64, shifted by %d", shift)] = code
		forms[fmt.Sprintf("in base64 of URLs, shifted by %d", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(code)
	}
	return forms
}

// TestSearch: the search finds secrets in all forms.
func TestSearch(t *testing.T) {
	t.Parallel()
	const secret = `wJa"r/XUtn+EMI\K7`
	long := []byte("x" + secret + "yz")
	for name, text := range map[string]string{
		"plain":   "a " + secret + " b",
		"JSON":    fmt.Sprintf(`{"a":%s}`, jsonOf(secret)),
		"query":   "?a=" + url.QueryEscape(secret),
		"path":    "/a/" + url.PathEscape(secret),
		"hex":     hex.EncodeToString(long),
		"base64":  base64.StdEncoding.EncodeToString(long[1:]),
		"shifted": base64.URLEncoding.EncodeToString(long),
		"twice":   base64.RawStdEncoding.EncodeToString(append([]byte("z"), long...)),
	} {
		p := places{}
		p.add(name, []byte(text))
		if len(p.find(secret)) == 0 {
			t.Errorf("not found in %s: %s", name, text)
		}
		if found := p.find("another-secret"); len(found) > 0 {
			t.Errorf("found what is not there: %v", found)
		}
	}
}

func jsonOf(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// tap is a proxy between ixmage and IAM that records the calls and every key pair that
// IAM creates.
type tap struct {
	proxy *httputil.ReverseProxy
	mu    sync.Mutex // guards the fields below
	pairs []alias.KeyPair
	calls []iamCall
}

type iamCall struct {
	action, key string // key is the id of the one that signed
	at          time.Time
}

func newTap(t *testing.T, g *gateway.Server) (*tap, string) {
	t.Helper()
	p := &tap{proxy: toIAM(t, g)}
	p.proxy.ModifyResponse = p.keep
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // what it cannot read is for IAM to refuse
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(rest, "/")
	p.mu.Lock()
	p.calls = append(p.calls, iamCall{form.Get("Action"), key, time.Now()})
	p.mu.Unlock()
	p.proxy.ServeHTTP(w, r)
}

// keep records the key pair of an answer, if there is one.
func (p *tap) keep(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var out struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	if xml.Unmarshal(body, &out) == nil && out.Secret != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pairs = append(p.pairs, alias.KeyPair{AccessKeyID: out.ID, SecretAccessKey: alias.NewSecret(out.Secret)})
	}
	return nil
}

// gave returns the key pairs that IAM has created, the newest last.
func (p *tap) gave() []alias.KeyPair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pairs)
}

// signedBy returns the times of the calls of an action signed with a key.
func (p *tap) signedBy(action, key string) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var at []time.Time
	for _, c := range p.calls {
		if c.action == action && c.key == key {
			at = append(at, c.at)
		}
	}
	return at
}

// TestNoSecretLeavesProvisioning takes a server through the operations on its users,
// good and bad, at the real IAM, and then searches all its output and files for every
// secret that ever existed.
func TestNoSecretLeavesProvisioning(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iam, iamURL := newTap(t, g)
	l := &leakEnv{t: t, seen: places{}, secrets: map[string]string{}}
	l.secrets["the provisioner's key"] = g.Root.SecretAccessKey.Reveal()
	data := filepath.Join(t.TempDir(), "data")
	args := append([]string{"--reconcile-age", "1ns"}, quickWaits...)

	with := provisionArgs(g, iamURL, args...)

	l.begin(startProvisioningIn(t, data, with...))
	user := l.provisions(g, bucket)
	l.rotates(g, user, iam)
	l.failsToProvision(g, bucket)
	l.readsAll("shop", "blog")
	l.end()

	wrong := slices.Clone(with)
	wrong[len(wrong)-1] = l.secret("the provisioner's wrong key")
	l.begin(startProvisioningIn(t, data, wrong...))
	l.operates("failed", "POST", "/api/v1/provision", provisionBody(g, "late", bucket))
	l.operates("failed", "POST", "/api/v1/credentials/shop/rotate", nil)
	l.readsAll("shop")
	l.end()

	l.begin(startProvisioningIn(t, data, with...))
	l.removes(g, user)
	l.readsAll()
	l.end()

	gave := iam.gave()
	for i, kp := range gave {
		l.secrets[fmt.Sprintf("key %d that IAM gave out", i+1)] = kp.SecretAccessKey.Reveal()
	}
	if len(gave) != 4 {
		t.Errorf("IAM gave out %d keys, want 4: to provision, to rotate, to rotate in an emergency, to fail", len(gave))
	}
	l.hunt()
	l.wantSeen(map[string][]string{
		gave[0].AccessKeyID:   {"log", "file registry.db ", "answer to GET", "answer to POST"},
		gave[3].AccessKeyID:   {"log", "file registry.db ", "answer to GET", "answer to POST"},
		user:                  {"log", "file registry.db ", "file registry.db-wal ", "answer to GET", "answer to POST"},
		`credential="shop"`:   {"answer to GET"}, // metrics
		"iam:CreateAccessKey": {"log", "file registry.db ", "answer to GET"},
		`"kind":"key"`:        {"answer to GET"},  // an orphan
		"with_key()":          {"answer to POST"}, // a plan
		"unknown-keys":        {"log", "file registry.db ", "answer to GET", "answer to POST", "answer to DELETE"},
		"object-missing":      {"log", "answer to GET", "answer to POST"},
		"does not accept the credentials of this server": {"log", "answer to GET", "answer to POST"},
		"problems/not-allowed":                           {"answer to POST"},
		"problems/invalid":                               {"answer to POST"},
		l.secrets["the master key"]:                      {"file master.keyset "},
		l.secrets["the admin token"]:                     {"file admin-token "},
		l.secrets["the provisioner's key"]:               {"process environ "},
	})
}

// operates begins an operation, which must end in this state.
func (l *leakEnv) operates(state, method, path string, body any) operation {
	l.t.Helper()
	op := parseOperation(l.t, l.sees(l.api(method, path, body, "Prefer", "wait=300")).body)
	if op.State != state {
		l.t.Fatalf("%s %s: %+v, want %s", method, path, op, state)
	}
	return op
}

// provisions creates an alias, and another with the same key, verifies both, and
// sends invalid requests. It returns the IAM user.
func (l *leakEnv) provisions(g *gateway.Server, bucket string) (user string) {
	const provision = "/api/v1/provision"
	body := provisionBody(g, "shop", bucket)
	l.call(200, "POST", provision+"/plan", body)
	l.operates("done", "POST", provision, body)
	l.call(200, "POST", "/api/v1/aliases/shop/verify", nil)
	again := provisionBody(g, "shop", bucket)
	again["prefix"], again["probe"] = "blog/", map[string]any{"inside": "blog/a.png"}
	l.call(409, "POST", provision, again)
	again["alias"], again["credential"] = "blog", "shop"
	l.operates("done", "POST", provision, again)
	l.call(200, "POST", "/api/v1/aliases/blog/verify", nil)
	l.call(403, "POST", provision, provisionBody(g, "other", "other-bucket"))
	again["probe"] = map[string]any{"inside": l.secret("a key as a probe")}
	l.call(400, "POST", provision, again)
	l.call(409, "DELETE", "/api/v1/credentials/shop", nil)
	for _, path := range []string{"/shop/a.png", "/blog/a.png", "/shop/nothing.png"} {
		l.sees(l.get(path))
	}
	return l.iamUsers(g)[0]
}

// rotates replaces the key three times: successfully, in an emergency, and in vain
// because of an unknown key.
func (l *leakEnv) rotates(g *gateway.Server, user string, iam *tap) {
	const rotate = "/api/v1/credentials/shop/rotate"
	for i, body := range []any{nil, map[string]any{"emergency": true}} {
		l.operates("done", "POST", rotate, body)
		l.call(200, "POST", "/api/v1/aliases/shop/verify", nil)
		gave := iam.gave()
		if got := l.keyPair("shop"); len(gave) != i+2 || got.AccessKeyID != gave[i+1].AccessKeyID ||
			got.SecretAccessKey.Reveal() != gave[i+1].SecretAccessKey.Reveal() {
			l.t.Errorf("the key that signs is not the last of the %d that IAM gave out", len(gave))
		}
	}
	foreign, err := g.AddKey(l.t.Context(), user)
	if err != nil {
		l.t.Fatal(err)
	}
	l.foreign, l.secrets["somebody else's key"] = foreign.AccessKeyID, foreign.SecretAccessKey.Reveal()
	l.operates("failed", "POST", rotate, nil)
}

// failsToProvision creates a key that must be deleted again, because the picture that
// proves it is missing.
func (l *leakEnv) failsToProvision(g *gateway.Server, bucket string) {
	body := provisionBody(g, "void", bucket)
	body["probe"] = map[string]any{"inside": "web/void.png"}
	op := l.operates("failed", "POST", "/api/v1/provision", body)
	if got := l.iamUsers(g); len(got) != 1 || op.Error == nil || op.Error.Step != "verify" {
		l.t.Errorf("users after a failure: %v: %+v", got, op)
	}
}

// readsAll reads everything that the API shows.
func (l *leakEnv) readsAll(aliases ...string) {
	for _, path := range []string{"aliases", "credentials", "operations", "audit?limit=1000", "orphans"} {
		l.call(200, "GET", "/api/v1/"+path, nil)
	}
	for _, name := range aliases {
		l.call(200, "GET", "/api/v1/aliases/"+name, nil)
	}
	var list struct{ Operations []operation }
	if err := json.Unmarshal(l.api("GET", "/api/v1/operations", nil).body, &list); err != nil {
		l.t.Fatal(err)
	}
	for _, op := range list.Operations {
		l.call(200, "GET", "/api/v1/operations/"+op.ID, nil)
	}
	l.sees(l.api("GET", "/api/v1/credentials/shop", nil))
}

// removes deletes the credential: first in vain, because of an unknown key.
func (l *leakEnv) removes(g *gateway.Server, user string) {
	eventually(l.t, "the key that nobody knows is reported", func() bool {
		return bytes.Contains(l.sees(l.api("GET", "/api/v1/orphans", nil)).body, []byte(user))
	})
	for _, name := range []string{"shop", "blog", "void", "late"} {
		l.call(204, "DELETE", "/api/v1/aliases/"+name, nil)
	}
	l.operates("failed", "DELETE", "/api/v1/credentials/shop", nil)
	if err := g.DeleteKey(l.t.Context(), user, l.foreign); err != nil {
		l.t.Fatal(err)
	}
	l.operates("done", "DELETE", "/api/v1/credentials/shop", nil)
}
