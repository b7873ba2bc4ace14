package e2e

import (
	"bytes"
	"crypto/rand"
	"database/sql" //nolint:depguard // a registry is damaged by hand
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// newSecret has the form of AWS's.
func newSecret() string {
	raw := make([]byte, 30)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// leaks runs a server and keeps everything that it lets out.
type leaks struct {
	*server
	t       *testing.T
	s3      *s3.Server
	seen    places
	secrets map[string]string // by what they are
	foreign string            // the id of a key that somebody else made
}

// TestNoSecretLeaves takes a server through a life of good and bad use, and then
// looks for every secret in all that it has said and stored.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	l := &leaks{t: t, s3: s3.New(t), seen: places{}, secrets: map[string]string{}}
	data := filepath.Join(t.TempDir(), "data")

	l.begin(startIn(t, program, data))
	l.registers()
	l.serves()
	l.speaksNonsense()
	l.breaksDown()
	l.end()

	l.forges(data)
	l.begin(startIn(t, program, data, "--metrics-listen", "127.0.0.1:0"))
	if r := l.sees(l.get("/forged/a.png")); r.StatusCode < http.StatusInternalServerError {
		t.Errorf("a forged secret is answered %s", r.Status)
	}
	l.serves()
	l.end()

	l.refusesToStart(data)
	l.search()
}

// secret makes up a secret.
func (l *leaks) secret(what string) string {
	s := newSecret()
	l.secrets[what] = s
	return s
}

func (l *leaks) begin(s *server) {
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

// end keeps what can only be seen while the server runs, ends it, and keeps the
// rest.
func (l *leaks) end() {
	for _, addr := range []string{l.admin, l.metrics} {
		if addr != "" {
			l.sees(l.do(http.MethodGet, "http://"+addr+"/metrics", nil))
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		l.seen.add("process "+file, readFile(l.t, fmt.Sprintf("/proc/%d/%s", l.cmd.Process.Pid, file)))
	}
	l.seen.folder(l.t, l.data)
	if code := l.stop(); code != 0 {
		l.t.Errorf("exit status is %d", code)
	}
	l.seen.folder(l.t, l.data)
	l.seen.add("log", []byte(l.output()))
}

// sees keeps an answer.
func (l *leaks) sees(r *response) *response {
	var b bytes.Buffer
	r.Header.Write(&b)
	b.Write(r.body)
	l.seen.add("answer to "+r.Request.Method, b.Bytes())
	return r
}

// call is a call of the admin API, which must have this status.
func (l *leaks) call(status int, method, path string, body any, headers ...string) {
	l.t.Helper()
	if r := l.sees(l.api(method, path, body, headers...)); r.StatusCode != status {
		l.t.Errorf("%s %s: %s, want %d: %s", method, path, r.Status, status, r.body)
	}
}

// pair is a key pair as JSON.
func pair(id, secret string) map[string]any {
	return map[string]any{"access_key_id": id, "secret_access_key": secret}
}

// alias is the body of a registration.
func (l *leaks) alias(name, secret string) map[string]any {
	return map[string]any{
		"name": name, "bucket": "planted-bucket", "endpoint": l.s3.URL, "path_style": true,
		"credential": pair("AKIA"+strings.ToUpper(strings.ReplaceAll(name, "-", "")), secret),
	}
}

// registers makes all calls of the admin API that take a secret, with success
// and with every failure, and some with a secret where none belongs.
func (l *leaks) registers() {
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
	l.call(204, "DELETE", credentials+"/spare", nil)
	l.call(204, "DELETE", aliases+"/planted-alias", nil)
	l.call(201, "POST", aliases, l.alias("planted-alias", l.secret("the new key of planted-alias")))
}

// serves asks for pictures, good and broken, as clients who send what they
// should not.
func (l *leaks) serves() {
	l.s3.Put("planted-bucket", "a.png", s3.Object{Body: pic(4096, "secrets"), ContentType: "image/png"})
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
		l.s3.Put("planted-bucket", name+".png", s3.Object{Body: pic(4096, name), ContentType: "image/png"})
		l.sees(l.get("/shop/"+name+".png", carry...))
	}
}

// speaksNonsense sends what is no request, with the token in it, to both
// listeners.
func (l *leaks) speaksNonsense() {
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

// breaksDown takes the registry's tables away under the running server.
func (l *leaks) breaksDown() {
	l.sql(l.data, `ALTER TABLE aliases RENAME TO hidden`)
	l.call(500, "GET", "/api/v1/aliases", nil)
	l.call(500, "POST", "/api/v1/aliases", l.alias("late", l.secret("a key that cannot be stored")))
	l.call(500, "PATCH", "/api/v1/aliases/shop", map[string]any{"ttl": "1m"})
	l.sql(l.data, `ALTER TABLE hidden RENAME TO aliases`)
	l.call(200, "GET", "/api/v1/aliases", nil)
}

// forges puts the sealed secret of one credential in the place of another's.
func (l *leaks) forges(data string) {
	l.sql(data, `UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE name = 'shop') WHERE name = 'forged'`)
}

func (l *leaks) sql(data, query string) {
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

// refusesToStart has secrets in what is complained of at start.
func (l *leaks) refusesToStart(data string) {
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

// search looks for everything everywhere.
func (l *leaks) search() {
	l.hunt()
	// What may be seen is found in every kind of place, so these were searched.
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

// hunt looks for every secret in every place that is not its home.
func (l *leaks) hunt() {
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

// wantSeen wants texts to be found in every kind of place that they were put in.
func (l *leaks) wantSeen(texts map[string][]string) {
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
