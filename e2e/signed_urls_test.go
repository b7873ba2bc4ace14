package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/docs/examples/signing"
	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// signingKey is a key as the API shows it once.
type signingKey struct{ KID, Secret string }

// newSigningKey makes a key of an alias.
func (s *server) newSigningKey(alias string) (k signingKey) {
	s.t.Helper()
	r := s.api(http.MethodPost, "/api/v1/aliases/"+alias+"/signing-keys", nil)
	if err := json.Unmarshal(r.body, &k); err != nil || r.StatusCode != http.StatusCreated || k.KID == "" || k.Secret == "" {
		s.t.Fatalf("make a signing key: %v, %s", err, summary(r))
	}
	return k
}

// deleteSigningKey deletes a key of an alias.
func (s *server) deleteSigningKey(alias, kid string) {
	s.t.Helper()
	if r := s.api(http.MethodDelete, "/api/v1/aliases/"+alias+"/signing-keys/"+kid, nil); r.StatusCode != http.StatusNoContent {
		s.t.Fatalf("delete the signing key: %s", summary(r))
	}
}

// sign signs a path and query as programs of users do.
func (k signingKey) sign(t testing.TB, target string, exp time.Time) string {
	t.Helper()
	signed, err := signing.Sign(target, k.KID, k.Secret, exp)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// newLocked is an env without a worker, whose alias shop is locked.
func newLocked(t testing.TB, args ...string) (*env, signingKey) {
	t.Helper()
	s := newEnv(t, args...)
	s.patch("shop", `{"access":"signed"}`)
	key := s.newSigningKey("shop")
	return s, key
}

func never() time.Time { return time.Time{} }

// TestLockedAlias: originals of a locked alias need a signature, and each part of a signed URL is
// bound by it.
func TestLockedAlias(t *testing.T) {
	t.Parallel()
	s, key := newLocked(t)
	s.open("other", "media", "web/", map[string]any{"access": "signed"})
	foreign, body := s.newSigningKey("other"), png(1000, "")
	for _, name := range []string{"a.png", "b.png", "ab.png", "a b.png"} {
		s.put(name, s3.Object{Body: body})
	}
	hour := time.Now().Add(time.Hour)
	good := key.sign(t, "/shop/a.png?w=400&t=thumb", hour)
	for name, target := range map[string]string{
		"good": good, "never ends": key.sign(t, "/shop/b.png", never()),
		"utm parameters behind it": good + "&utm_source=mail&utm_campaign=%zz", "others before it": strings.Replace(good, "?", "?v=2&fbclid=x&", 1),
		"another order": reordered(good), "escapes of a value": strings.Replace(good, "w=400", "w=%340%30", 1),
		"path with an escape":              key.sign(t, "/shop/a%20b.png", hour),
		"options that nobody can use here": key.sign(t, "/shop/ab.png?q=50&blur=3", hour),
	} {
		t.Run(name, func(t *testing.T) {
			wantPicture(t, s.get(target), body)
			// HEAD and GET share a signature.
			if r := s.head(target); r.StatusCode != http.StatusOK || r.ContentLength != int64(len(body)) {
				t.Errorf("HEAD: %s", summary(r))
			}
		})
	}
	if r := s.get(key.sign(t, "/shop/none.png", hour)); r.StatusCode != http.StatusNotFound {
		t.Errorf("missing object: %s", summary(r))
	}
	for name, target := range refusedURLs(t, good, key, foreign) {
		t.Run(name, func(t *testing.T) { wantProblem(t, s.get(target), http.StatusForbidden, "signature") })
	}
	if n := s.s3.Count("media", "web/none2.png"); n != 0 {
		t.Errorf("S3 was asked for an object of a refused URL %d times", n)
	}
	// Nothing is told without a signature.
	etag := s.get(good).Header.Get("ETag")
	for _, headers := range [][]string{{"If-None-Match", etag}, {"If-Match", `"x"`}, {"Range", "bytes=0-9"}, {"Range", "bytes=9999-"}} {
		if r := s.get("/shop/a.png", headers...); r.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %s", headers, summary(r))
		}
	}
}

// reordered turns the order of the parameters around.
func reordered(target string) string {
	path, query, _ := strings.Cut(target, "?")
	pairs := strings.Split(query, "&")
	turned := make([]string, 0, len(pairs))
	for i := range pairs {
		turned = append(turned, pairs[len(pairs)-1-i])
	}
	return path + "?" + strings.Join(turned, "&")
}

// refusedURLs are URLs that a signature does not cover, by what is wrong with them.
func refusedURLs(t *testing.T, good string, key, foreign signingKey) map[string]string {
	t.Helper()
	change := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("%s has no %s", good, from)
		}
		return strings.Replace(good, from, to, 1)
	}
	sig := good[strings.Index(good, "&sig=")+5:]
	exp := regexp.MustCompile(`&exp=\d+`).FindString(good)
	other := "A"
	if sig[0] == 'A' {
		other = "B"
	}
	return map[string]string{
		"unsigned": "/shop/a.png", "unsigned with options": "/shop/a.png?w=400", "missing object": "/shop/none2.png",
		"another path": change("a.png", "b.png"), "another spelling of the path": change("a.png", "%61.png"),
		"another alias": change("/shop/", "/other/"), "longer path": change("/a.png", "/ab.png"),
		"another width": change("w=400", "w=401"), "a synonym": change("w=400", "width=400"), "one option less": change("&t=thumb", ""),
		"one option more": good + "&h=1", "an option twice": good + "&w=400", "another template": change("t=thumb", "t=thumbs"),
		"later end": change(exp, exp+"0"), "no end": change(exp, ""), "end twice": good + exp, "end with a leading zero": change("&exp=", "&exp=0"),
		"no kid": change("&kid="+key.KID, ""), "unknown kid": change("kid="+key.KID, "kid=zzzz9999"), "kid twice": good + "&kid=" + key.KID,
		"kid of another alias": change("kid="+key.KID, "kid="+foreign.KID), "key of another alias": foreign.sign(t, "/shop/a.png?w=400", never()),
		"no sig": change("&sig="+sig, ""), "empty sig": change(sig, ""), "another sig": change("&sig="+sig[:1], "&sig="+other),
		"short sig": good[:len(good)-1], "padded sig": good + "=", "sig twice": good + "&sig=" + sig, "encoded sig": change("&sig="+sig[:1], fmt.Sprintf("&sig=%%%X", sig[0])),
		"expired": key.sign(t, "/shop/a.png", time.Now().Add(-time.Second)), "expired in 1970": key.sign(t, "/shop/a.png", time.Unix(1, 0)),
		"huge end": key.sign(t, "/shop/a.png", time.Unix(253402300800, 0)),
		"too long": good + "&x=" + strings.Repeat("a", 4096), "too many parameters": good + strings.Repeat("&x", 64),
		"bad escape in an option": good + "&bg=%zz",
	}
}

// TestSignatureRefusedAlike: clients cannot tell why a signature is refused.
func TestSignatureRefusedAlike(t *testing.T) {
	t.Parallel()
	s, key := newLocked(t)
	s.open("other", "media", "web/", map[string]any{"access": "signed"})
	foreign := s.newSigningKey("other")
	s.put("a.png", s3.Object{Body: png(1000, "")})
	good := key.sign(t, "/shop/a.png?w=400&t=thumb", time.Now().Add(time.Hour))
	wantPicture(t, s.get(good), png(1000, ""))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		want := ""
		for name, target := range refusedURLs(t, good, key, foreign) {
			text := s.dial().send(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").all()
			text = changing.ReplaceAllString(requestIDs.ReplaceAllString(text, "ID"), "Date: D")
			if want == "" {
				want = text
			}
			if text != want || !strings.HasPrefix(text, "HTTP/1.1 403 ") {
				t.Errorf("%s, %s: got\n%s\nwant, as for the others,\n%s", method, name, text, want)
			}
		}
		if !strings.Contains(want, "Cache-Control: no-store") || strings.Contains(want, "Cache-Status") {
			t.Errorf("%s: the answer is\n%s", method, want)
		}
	}
}

// TestSignedRawPath: a signature covers the path byte for byte as it is sent.
func TestSignedRawPath(t *testing.T) {
	t.Parallel()
	s, key := newLocked(t)
	body := png(1000, "")
	for _, name := range []string{"a.png", "é/ü.png", "x/y.png", "p+q.png"} {
		s.put(name, s3.Object{Body: body})
	}
	for _, spellings := range [][]string{
		{"/shop/a.png", "/shop/%61.png", "/shop/a%2Epng", "/shop/a%2epng"},
		{"/shop/%C3%A9/%C3%BC.png", "/shop/%c3%a9/%c3%bc.png", "/shop/%C3%A9%2F%C3%BC.png"},
		{"/shop/x/y.png", "/shop/x%2Fy.png", "/shop/x%2fy.png"},
		{"/shop/p+q.png", "/shop/p%2Bq.png", "/shop/p%2bq.png"},
	} {
		for _, signed := range spellings {
			query := strings.TrimPrefix(key.sign(t, signed, never()), signed)
			for _, sent := range spellings {
				if r := s.ask(sent + query); (r.StatusCode == http.StatusOK) != (sent == signed) {
					t.Errorf("%s with the signature of %s: %s", sent, signed, summary(r))
				}
			}
		}
	}
	signed := key.sign(t, "/shop/a.png?w=1", never())
	_, query, _ := strings.Cut(signed, "?")
	for _, tt := range []struct {
		target string
		status int
	}{
		{"http://img.example.com" + signed, 200}, // in absolute form: scheme and host are not signed
		{"https://other.example:99" + signed, 200},
		{strings.Replace(signed, "?", "??", 1), 403}, // the name is ?w
		{strings.Replace(signed, "&", ";", 1), 403},
		{strings.Replace(signed, "w=1", "%77=1", 1), 403},
		{strings.Replace(signed, "sig=", "s%69g=", 1), 403},
		{signed + "%01", 403},
		{signed + "&\xff", 200},
		{"/shop/../shop/a.png?" + query, 400},
	} {
		if r := s.ask(tt.target); r.StatusCode != tt.status {
			t.Errorf("%q: got %s, want %d", tt.target, summary(r), tt.status)
		}
	}
}

// TestSignedFreshness: answers of a locked alias are for browsers alone, and no cache keeps one for
// longer than its URL lasts.
func TestSignedFreshness(t *testing.T) {
	t.Parallel()
	s, key := newLocked(t)
	s.put("a.png", s3.Object{Body: png(1000, "")})
	s.put("long.png", s3.Object{Body: png(1000, ""), CacheControl: "public, max-age=864000, s-maxage=864000, immutable"})
	s.put("no.png", s3.Object{Body: png(1000, ""), CacheControl: "no-store"})
	for _, path := range []string{"/shop/a.png", "/shop/long.png", "/shop/no.png"} {
		for _, life := range []time.Duration{0, 100 * time.Second} {
			end, most := never(), 864000
			if life > 0 {
				end, most = time.Now().Add(life), 100
			}
			for range 2 { // a miss, and a hit
				r := s.get(key.sign(t, path, end))
				wantPicture(t, r, png(1000, ""))
				control := r.Header.Get("Cache-Control")
				if strings.Contains(control, "public") || strings.Contains(control, "s-maxage") ||
					!strings.Contains(control, "private") && !strings.Contains(control, "no-store") {
					t.Errorf("%s, %v: Cache-Control %q is not private", path, life, control)
				}
				if age := maxAgeOf(t, control); age-ageOf(r) > most {
					t.Errorf("%s, %v: Cache-Control %q with Age %d outlives the URL", path, life, control, ageOf(r))
				}
			}
		}
	}
	s.patch("shop", `{"access":"open"}`)
	if r := s.get("/shop/a.png"); !strings.Contains(r.Header.Get("Cache-Control"), "public") {
		t.Errorf("unlocked: Cache-Control %q", r.Header.Get("Cache-Control"))
	}
}

func maxAgeOf(t *testing.T, control string) int {
	t.Helper()
	m := regexp.MustCompile(`\bmax-age=(\d+)`).FindStringSubmatch(control)
	if m == nil {
		if !strings.Contains(control, "no-store") {
			t.Errorf("Cache-Control %q has no max-age", control)
		}
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ageOf(r *response) int {
	n, _ := strconv.Atoi(r.Header.Get("Age")) // none is 0
	return n
}

// TestSignatureIsNoPartOfTheKey: all signed URLs of a picture share one entry.
func TestSignatureIsNoPartOfTheKey(t *testing.T) {
	t.Parallel()
	s, first := newLocked(t)
	second := s.newSigningKey("shop")
	s.put("a.png", s3.Object{Body: png(1000, "")})
	for i, target := range []string{
		first.sign(t, "/shop/a.png", never()), second.sign(t, "/shop/a.png", never()),
		second.sign(t, "/shop/a.png?v=2", time.Now().Add(time.Hour)), first.sign(t, "/shop/a.png?utm_x=y", time.Now().Add(2*time.Hour)),
	} {
		r := s.get(target)
		wantPicture(t, r, png(1000, ""))
		if hit := strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit"); hit != (i > 0) {
			t.Errorf("%s: Cache-Status %q", target, r.Header.Get("Cache-Status"))
		}
	}
	if n := s.calls("a.png"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
}

// TestSigningKeyUses: the list of keys says when each was used last, for a rotation.
func TestSigningKeyUses(t *testing.T) {
	t.Parallel()
	s, first := newLocked(t)
	second := s.newSigningKey("shop")
	s.put("a.png", s3.Object{Body: png(1000, "")})
	uses := func() map[string]*time.Time {
		var list struct {
			Keys []struct {
				KID  string     `json:"kid"`
				Used *time.Time `json:"last_used_at"`
			} `json:"signing_keys"`
		}
		r := s.api(http.MethodGet, "/api/v1/aliases/shop/signing-keys", nil)
		if err := json.Unmarshal(r.body, &list); err != nil || len(list.Keys) != 2 {
			t.Fatalf("%v in %s", err, r.body)
		}
		return map[string]*time.Time{list.Keys[0].KID: list.Keys[0].Used, list.Keys[1].KID: list.Keys[1].Used}
	}
	for range 2 { // a refused request is no use
		wantProblem(t, s.get("/shop/a.png?kid="+first.KID+"&sig="+strings.Repeat("A", 43)), http.StatusForbidden, "signature")
		wantProblem(t, s.get(first.sign(t, "/shop/a.png", time.Unix(1, 0))), http.StatusForbidden, "signature")
		if got := uses(); got[first.KID] != nil || got[second.KID] != nil {
			t.Fatalf("uses before the first: %v", got)
		}
	}
	begin := time.Now().Truncate(time.Second)
	wantPicture(t, s.get(second.sign(t, "/shop/a.png", never())), png(1000, ""))
	s.patch("shop", `{"ttl":"2h"}`) // another revision
	s.head(second.sign(t, "/shop/a.png", never()))
	s.patch("shop", `{"ttl":"3h"}`)
	got := uses()
	if got[first.KID] != nil || got[second.KID] == nil || got[second.KID].Before(begin) || got[second.KID].After(time.Now()) {
		t.Errorf("uses: %v, want none of %s, and one of %s after %v", got, first.KID, second.KID, begin)
	}
}

// TestRotateSigningKey: a key is replaced under load without a refused request, and the deleted one
// opens nothing from then on.
func TestRotateSigningKey(t *testing.T) {
	t.Parallel()
	s, first := newLocked(t)
	s.put("a.png", s3.Object{Body: png(1000, "")})
	var key atomic.Pointer[signingKey]
	key.Store(&first)
	var stopped atomic.Bool
	var done [4]atomic.Int64
	var signers sync.WaitGroup
	for i := range done {
		signers.Go(func() {
			for n := 0; !stopped.Load(); n++ {
				k := key.Load()
				target := k.sign(t, fmt.Sprintf("/shop/a.png?v=%d", n), time.Now().Add(time.Hour))
				if r := single(s.public, http.MethodGet, target); r.err != nil || r.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", target, summary(r))
					return
				}
				done[i].Add(1)
			}
		})
	}
	// Each signer has begun and ended a request since the call.
	progress := func() {
		var before [len(done)]int64
		for i := range done {
			before[i] = done[i].Load()
		}
		eventually(t, "all signers go on", func() bool {
			for i := range done {
				if done[i].Load() < before[i]+2 {
					return t.Failed()
				}
			}
			return true
		})
	}
	old := []signingKey{}
	for range 3 {
		progress()
		next := s.newSigningKey("shop")
		old = append(old, *key.Swap(&next))
		progress()
		s.deleteSigningKey("shop", old[len(old)-1].KID)
		target := old[len(old)-1].sign(t, "/shop/a.png", never())
		wantProblem(t, s.get(target), http.StatusForbidden, "signature") // although the picture is in the cache
	}
	progress()
	stopped.Store(true)
	signers.Wait()
}

// TestSigningKeysSurvive: keys are there after a restart, and cannot be read in the data folder.
func TestSigningKeysSurvive(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := newEnvOn(t, startIn(t, data))
	s.patch("shop", `{"access":"signed"}`)
	key := s.newSigningKey("shop")
	s.put("a.png", s3.Object{Body: png(1000, "")})
	target := key.sign(t, "/shop/a.png", time.Now().Add(time.Hour))
	wantPicture(t, s.get(target), png(1000, ""))
	wantProblem(t, s.get(target+"x"), http.StatusForbidden, "signature")

	seen := places{}
	for _, path := range []string{"/metrics", "/api/v1/aliases", "/api/v1/aliases/shop", "/api/v1/aliases/shop/signing-keys", "/api/v1/audit", "/api/v1/explain?path=/shop/a.png"} {
		r := s.api(http.MethodGet, path, nil)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, summary(r))
		}
		seen.add(path, r.body)
	}
	seen.add("log", []byte(s.wholeLog()))
	if code := s.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	seen.folder(t, data)
	raw, err := base64.RawURLEncoding.DecodeString(key.Secret)
	if err != nil || len(raw) != 32 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	sig := target[strings.Index(target, "&sig=")+5:]
	for what, secret := range map[string]string{"the key": key.Secret, "the bytes of the key": string(raw), "a signature": sig} {
		if found := seen.find(secret); len(found) > 0 {
			t.Errorf("%s is in %q", what, found)
		}
	}
	if found := seen.find(key.KID); len(found) == 0 {
		t.Error("the search finds nothing")
	}

	again := startIn(t, data)
	wantPicture(t, again.get(target), png(1000, ""))
}

// TestSignCommand: what ixmage sign prints opens the picture, signed by the server and without it.
func TestSignCommand(t *testing.T) {
	t.Parallel()
	s, key := newLocked(t)
	s.put("a b.png", s3.Object{Body: png(1000, "")})
	url := "http://" + s.public + "/shop/a b.png?utm_x=1"
	wantProblem(t, s.get("/shop/a%20b.png"), http.StatusForbidden, "signature")
	file := filepath.Join(t.TempDir(), "signing.key")
	if err := os.WriteFile(file, []byte(key.KID+":"+key.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	noServer := []string{"IXMAGE_ADMIN_URL=http://127.0.0.1:1", "IXMAGE_SIGNING_KEY=" + key.KID + ":" + key.Secret}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
	}{
		{"by the server", nil, nil},
		{"by the server, with an end", nil, []string{"--expires", "24h", "--round", "87600h"}},
		{"with a time", nil, []string{"--expires", "2099-01-31T00:00:00Z"}},
		{"with the key of a file", noServer[:1], []string{"--key-file", file, "--expires", "24h", "--round", "87600h"}},
		{"with the key of the environment", noServer, nil},
	} {
		var printed []string
		for range 2 {
			got := s.runClient(tt.env, append([]string{"sign", url}, tt.args...)...)
			if got.code != 0 || got.stderr != "" {
				t.Fatalf("%s: %+v", tt.name, got)
			}
			printed = append(printed, strings.TrimSpace(got.stdout))
		}
		if printed[0] != printed[1] {
			t.Errorf("%s: %q", tt.name, printed)
		}
		wantPicture(t, s.do(http.MethodGet, printed[0], nil), png(1000, ""))
	}
	for _, options := range []string{"&w=400px", "&w=4&width=4", "&flop=1&flip=v", "&f=%zz"} {
		if got := s.runClient(noServer, "sign", url+options); got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, "answers 400") {
			t.Errorf("%s: %+v", options, got)
		}
	}
	if got := s.runClient(nil, "sign", "http://"+s.public+"/shpo/a.png"); got.code != 4 || !strings.Contains(got.stderr, "Did you mean shop?") {
		t.Errorf("unknown alias: %+v", got)
	}
	s.deleteSigningKey("shop", key.KID)
	if got := s.runClient(nil, "sign", url); got.code == 0 || !strings.Contains(got.stderr, "signing-key") {
		t.Errorf("without a key: %+v", got)
	}
}

// TestSignedOptions: a signature frees all options of an alias, with exact widths, and no request
// without one has them.
func TestSignedOptions(t *testing.T) {
	t.Parallel()
	s := newEnv(t, transforming(t)...)
	key := s.newSigningKey("shop") // transforms: templates, as for each new alias
	second := s.newSigningKey("shop")
	s.s3.Put("media", "web/photo.png", s3.Object{Body: picture.Blank(600, 400), ContentType: "image/png"})
	width := func(target string) int {
		t.Helper()
		r := s.patiently(target)
		c, _, err := image.DecodeConfig(bytes.NewReader(r.body))
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %s", target, err, summary(r))
		}
		return c.Width
	}
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		target string
		want   int
	}{
		{"/shop/photo.png", 600},
		{"/shop/photo.png?w=100", 120}, // the next one of the ladder
		{key.sign(t, "/shop/photo.png?w=100&f=png", hour), 100},
		{key.sign(t, "/shop/photo.png?w=77&h=55&fit=cover&f=jpeg&q=50", never()), 77},
	} {
		if got := width(tt.target); got != tt.want {
			t.Errorf("%s: width %d, want %d", tt.target, got, tt.want)
		}
	}
	good := key.sign(t, "/shop/photo.png?w=100&f=png", hour)
	for name, target := range map[string]string{
		"unsigned": "/shop/photo.png?w=100&f=png", "height": "/shop/photo.png?h=100", "info": "/shop/photo.png?info=1",
		"changed option": strings.Replace(good, "f=png", "f=jpeg", 1), "option more": good + "&q=5", "expired": key.sign(t, "/shop/photo.png?h=9", time.Unix(9, 0)),
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, s.get(target), http.StatusForbidden, "signature") })
	}
	for _, target := range []string{"/shop/photo.png?w=1&w=1", key.sign(t, "/shop/photo.png?w=1&width=1", never()), key.sign(t, "/shop/photo.png?q=0", never())} {
		wantProblem(t, s.get(target), http.StatusBadRequest, "bad-option")
	}
	// The variant is in the cache for every good signature, and for no longer than the URL lasts.
	r := s.get(second.sign(t, "/shop/photo.png?f=png&v=2&w=100", time.Now().Add(100*time.Second)))
	if !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit") || maxAgeOf(t, r.Header.Get("Cache-Control"))-ageOf(r) > 100 {
		t.Errorf("another key: Cache-Status %q, Cache-Control %q, Age %d", r.Header.Get("Cache-Status"), r.Header.Get("Cache-Control"), ageOf(r))
	}
	if control := r.Header.Get("Cache-Control"); !strings.Contains(control, "public") {
		t.Errorf("the alias is open, and Cache-Control is %q", control)
	}
	s.deleteSigningKey("shop", key.KID)
	wantProblem(t, s.get(good), http.StatusForbidden, "signature")
	s.patch("shop", `{"transforms":"signed"}`)
	wantProblem(t, s.get("/shop/photo.png?w=120"), http.StatusForbidden, "signature")
	if got := width(second.sign(t, "/shop/photo.png?w=120", never())); got != 120 {
		t.Errorf("signed: width %d", got)
	}
}
