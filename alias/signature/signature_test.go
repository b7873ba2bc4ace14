package signature

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	path   = "/shop/a%20b/%C3%A9.jpg"
	secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func key(t testing.TB, id, secret string) *Key {
	t.Helper()
	k, err := ParseKey(id + ":" + secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, k *Key, query string, exp time.Time) string {
	t.Helper()
	signed, err := k.Sign(path, query, exp)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func verify(keys []*Key, path, query string) error {
	_, _, err := Verify(keys, []byte(path), []byte(query), now)
	return err
}

// signedAs returns the query with a signature over a message of the test's own.
func signedAs(query, message string) string {
	raw, err := encoding.DecodeString(secret)
	if err != nil {
		panic(err)
	}
	h := hmac.New(sha256.New, raw)
	h.Write([]byte(message))
	return query + "&sig=" + encoding.EncodeToString(h.Sum(nil))
}

func TestVerify(t *testing.T) {
	t.Parallel()
	k1, k2 := key(t, "k1", secret), key(t, "k2", strings.Repeat("A", 42)+"E")
	keys := []*Key{k1, k2}
	hour := now.Add(time.Hour)
	good := sign(t, k1, "w=400&q=80", hour)
	forever := sign(t, k2, "", time.Time{})
	sig := good[strings.Index(good, "sig=")+4:]
	unsigned := strings.TrimSuffix(good, "&sig="+sig)
	last := string(rune(sig[42] + 1)) // same 256 bits, other bits behind them
	raw := func(exp string) string {
		return signedAs("exp="+exp+"&kid=k1", "ixmage-v1\n"+path+"\nexp="+exp+"&kid=k1")
	}

	for _, tt := range []struct {
		name, path, query string
		want              error
	}{
		{"good", path, good, nil},
		{"never ends", path, forever, nil},
		{"other order", path, "sig=" + sig + "&" + unsigned, nil},
		{"unknown parameters", path, "utm_source=a&" + good + "&v=2&fbclid=%zz&&=", nil},
		{"other escapes of a value", path, strings.Replace(good, "w=400", "w=%34%30%30", 1), nil},

		{"no query", path, "", ErrMissing},
		{"no sig", path, unsigned, ErrMissing},
		{"no kid", path, strings.Replace(good, "kid=k1&", "", 1), ErrMissing},
		{"only unknown", path, "a=b&SIG=" + sig, ErrMissing},
		{"encoded name", path, strings.Replace(good, "sig=", "s%69g=", 1), ErrMissing},

		{"unknown kid", path, strings.Replace(good, "kid=k1", "kid=k3", 1), ErrUnknownKey},
		{"empty kid", path, strings.Replace(good, "kid=k1", "kid=", 1), ErrUnknownKey},
		{"kid without a value", path, strings.Replace(good, "kid=k1", "kid", 1), ErrUnknownKey},
		{"encoded kid", path, strings.Replace(good, "kid=k1", "kid=k%31", 1), ErrUnknownKey},
		{"kid in capitals", path, strings.Replace(good, "kid=k1", "kid=K1", 1), ErrUnknownKey},

		{"kid of another key", path, strings.Replace(good, "kid=k1", "kid=k2", 1), ErrBadSignature},
		{"other path", path + "x", good, ErrBadSignature},
		{"other spelling of the path", strings.Replace(path, "%C3", "%c3", 1), good, ErrBadSignature},
		{"decoded path", strings.Replace(path, "%20", " ", 1), good, ErrBadSignature},
		{"other alias", "/b" + path[1:], good, ErrBadSignature},
		{"other width", path, strings.Replace(good, "w=400", "w=401", 1), ErrBadSignature},
		{"synonym", path, strings.Replace(good, "w=400", "width=400", 1), ErrBadSignature},
		{"option added", path, good + "&h=1", ErrBadSignature},
		{"option added without a value", path, good + "&info", ErrBadSignature},
		{"option twice", path, good + "&w=400", ErrBadSignature},
		{"option gone", path, strings.Replace(good, "&q=80", "", 1), ErrBadSignature},
		{"exp gone", path, strings.Replace(good, fmt.Sprintf("exp=%d&", hour.Unix()), "", 1), ErrBadSignature},
		{"exp added", path, fmt.Sprintf("exp=%d&", hour.Unix()) + forever, ErrBadSignature},
		{"later exp", path, strings.Replace(good, "exp=1", "exp=2", 1), ErrBadSignature},
		{"expired and wrong", path, strings.Replace(good, "exp=1", "exp=0", 1), ErrBadSignature},
		{"sig of zeros", path, unsigned + "&sig=" + strings.Repeat("A", 43), ErrBadSignature},

		{"expired this second", path, sign(t, k1, "w=1", now), ErrExpired},
		{"expired long ago", path, sign(t, k1, "w=1", time.Unix(0, 0)), ErrExpired},
		{"not yet", path, sign(t, k1, "w=1", now.Add(time.Second)), nil},
		{"last exp", path, sign(t, k1, "w=1", time.Unix(maxExpiry, 0)), nil},

		{"exp after 9999", path, raw("253402300800"), ErrMalformed},
		{"huge exp", path, raw("99999999999999999999999999999999"), ErrMalformed},
		{"negative exp", path, raw("-1"), ErrMalformed},
		{"exp with a leading zero", path, raw("01798761600"), ErrMalformed},
		{"exp with a point", path, raw("1798761600.5"), ErrMalformed},
		{"exp in hex", path, raw("0x7fffffff"), ErrMalformed},
		{"exp without a value", path, raw(""), ErrMalformed},

		{"sig with padding", path, good + "=", ErrMalformed},
		{"encoded sig", path, strings.Replace(good, sig, fmt.Sprintf("%%%X%s", sig[0], sig[1:]), 1), ErrMalformed},
		{"sig with trailing bits", path, strings.Replace(good, sig, sig[:42]+last, 1), ErrMalformed},
		{"short sig", path, good[:len(good)-1], ErrMalformed},
		{"sig with a line end", path, good[:len(good)-1] + "\n", ErrMalformed},
		{"sig and a line end", path, good + "\n", ErrMalformed},
		{"long sig", path, good + strings.Repeat("A", 64), ErrMalformed},
		{"sig of the other alphabet", path, unsigned + "&sig=+" + sig[1:], ErrMalformed},
		{"empty sig", path, unsigned + "&sig=", ErrMalformed},
		{"sig without a value", path, unsigned + "&sig", ErrMalformed},
		{"bad escape", path, good + "&bg=%zz", ErrMalformed},
		{"bad first digit", path, good + "&bg=%z4", ErrMalformed},
		{"bad second digit", path, good + "&bg=%4z", ErrMalformed},
		{"cut escape", path, good + "&bg=%4", ErrMalformed},
		{"too long", path, good + "&x=" + strings.Repeat("a", MaxQuery), ErrMalformed},
		{"too many", path, good + strings.Repeat("&", maxPairs-4), ErrMalformed},
		{"just not too many", path, good + strings.Repeat("&", maxPairs-5), nil},

		{"exp twice", path, good + "&exp=1", ErrDuplicate},
		{"same kid twice", path, good + "&kid=k1", ErrDuplicate},
		{"sig twice", path, good + "&sig=" + sig, ErrDuplicate},
		{"sig twice, one empty", path, "sig&" + good, ErrDuplicate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := verify(keys, tt.path, tt.query); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%q: got %v, want %v", tt.query, err, tt.want)
			}
		})
	}
	if err := verify(nil, path, good); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("without keys: %v", err)
	}
	exp, kid, err := Verify(keys, []byte(path), []byte(good), now)
	if err != nil || !exp.Equal(hour) || kid != "k1" {
		t.Errorf("got %v, %q, %v", exp, kid, err)
	}
	if exp, kid, err := Verify(keys, []byte(path), []byte(forever), now); err != nil || !exp.IsZero() || kid != "k2" {
		t.Errorf("got %v, %q, %v", exp, kid, err)
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, query, want string }{
		{"nothing", "", ""},
		{"unknown parameters and sig", "v=2&utm_source=x&sig=abc&W=1&%77=1&", ""},
		{"sorted by pairs", "width=1&w=2&wid=3&kid=a&exp=5", "exp=5&kid=a&w=2&wid=3&width=1"},
		{"sorted as encoded", "wm=%7E&wm=%80&wm=z", "wm=%80&wm=z&wm=~"},
		{"no value", "info&t=&w", "info=&t=&w="},
		{"equals sign in a value", "t=a=b", "t=a%3Db"},
		{"plus is a plus", "wm=a+b", "wm=a%2Bb"},
		{"space", "wm=a%20b", "wm=a%20b"},
		{"decoded once", "wm=%252F", "wm=%252F"},
		{"slash and comma", "wm=x/y.png,o50&crop=1%2c2,3,4", "crop=1%2C2%2C3%2C4&wm=x%2Fy.png%2Co50"},
		{"needless escapes", "bg=%66%66%66&f=%7e%2D%2e%5F", "bg=fff&f=~-._"},
		{"bytes that are no text", "wm=\xff%00", "wm=%FF%00"},
		{"semicolon separates nothing", "w=1;h=2", "w=1%3Bh%3D2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Message("/p", tt.query)
			if want := "ixmage-v1\n/p\n" + tt.want; err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
	if _, err := Message("/p", "w=%"); !errors.Is(err, ErrMalformed) {
		t.Errorf("bad escape: %v", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(Names) {
		t.Error("Names are not sorted")
	}
	for _, n := range Names {
		if !known([]byte(n)) {
			t.Errorf("%s is in Names and not known", n)
		}
	}
	for _, n := range []string{"", "v", "W", "utm_source", "key", "w ", "%77"} {
		if known([]byte(n)) {
			t.Errorf("%q is known", n)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"good", "k1:" + secret, true},
		{"all characters", "Az09-._~:" + secret, true},
		{"longest id", strings.Repeat("a", maxKeyID) + ":" + secret, true},
		{"no id", ":" + secret, false},
		{"long id", strings.Repeat("a", maxKeyID+1) + ":" + secret, false},
		{"slash", "a/b:" + secret, false},
		{"ampersand", "a&b:" + secret, false},
		{"another letter", "\u0161:" + secret, false}, // its low byte is an a
		{"secret alone", secret, false},
		{"id alone", "k1", false},
		{"padded", "k1:" + secret + "=", false},
		{"short", "k1:" + secret[1:], false},
		{"long", "k1:" + secret + "AA", false},
		{"line end", "k1:" + secret[:42] + "\n", false},
		{"line end more", "k1:" + secret + "\n", false},
		{"trailing bits", "k1:" + secret[:42] + "9", false},
		{"other alphabet", "k1:+" + secret[1:], false},
		{"no secret", "k1:", false},
		{"nothing", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k, err := ParseKey(tt.text)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), secret[1:42]) {
				t.Errorf("the error has the secret: %v", err)
			}
			if id, _, _ := strings.Cut(tt.text, ":"); err == nil && k.ID() != id {
				t.Errorf("id %q", k.ID())
			}
		})
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := NewKey("k1", make([]byte, n)); err == nil {
			t.Errorf("a secret of %d bytes is accepted", n)
		}
	}
}

func TestKeyPrintsNoSecret(t *testing.T) {
	t.Parallel()
	k := key(t, "k1", secret)
	sign(t, k, "w=1", now)
	raw, _ := encoding.DecodeString(secret)
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(f, k); strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", raw[:8])) || strings.Contains(s, "1, 2, 3") {
			t.Errorf("%s prints the secret: %s", f, s)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	k := key(t, "k1", secret)
	for _, tt := range []struct {
		name, path, query string
		exp               time.Time
	}{
		{"no path", "", "", now},
		{"relative path", "shop/a.jpg", "", now},
		{"query in the path", "/shop/a.jpg?w=1", "", now},
		{"fragment", "/shop/a.jpg#x", "", now},
		{"space", "/shop/a b.jpg", "", now},
		{"letter not encoded", "/shop/é.jpg", "", now},
		{"line end", "/shop/a\n.jpg", "", now},
		{"fragment in the query", "/shop/a.jpg", "w=1#x", now},
		{"space in the query", "/shop/a.jpg", "wm=a b.png", now},
		{"exp there", "/shop/a.jpg", "w=1&exp=1", now},
		{"exp there, and none wanted", "/shop/a.jpg", "w=1&exp=1", time.Time{}},
		{"kid there", "/shop/a.jpg", "kid=k1", now},
		{"sig there", "/shop/a.jpg", "sig=", now},
		{"bad escape", "/shop/a.jpg", "bg=%zz", now},
		{"too many", "/shop/a.jpg", strings.Repeat("&", maxPairs-2), now},
		{"too many with the signature", "/shop/a.jpg", strings.Repeat("&", maxPairs-3), now},
		{"too long", "/shop/a.jpg", "x=" + strings.Repeat("a", MaxQuery-60), now},
		{"before 1970", "/shop/a.jpg", "", time.Unix(-1, 0)},
		{"after 9999", "/shop/a.jpg", "", time.Unix(maxExpiry+1, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if signed, err := k.Sign(tt.path, tt.query, tt.exp); err == nil {
				t.Errorf("signed: %s", signed)
			}
		})
	}
	// The most that Sign makes, Verify reads.
	most := strings.Repeat("&", maxPairs-4)
	if err := verify([]*Key{k}, path, sign(t, k, most, now.Add(1e9))); err != nil {
		t.Error(err)
	}
}

// TestProperties signs random queries and changes what must not matter, and what must.
func TestProperties(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := []*Key{key(t, "k1", secret), key(t, "k2", strings.Repeat("A", 43))}
	options := slices.DeleteFunc(slices.Clone(Names), func(n string) bool { return n == "exp" || n == "kid" || n == "sig" })
	for range 2000 {
		values := map[string]string{}
		for range rnd.IntN(6) {
			b := make([]byte, rnd.IntN(8))
			for i := range b {
				b[i] = byte(rnd.UintN(256))
			}
			values[options[rnd.IntN(len(options))]] = string(b)
		}
		signed, err := keys[0].Sign(path, spell(rnd, values), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		_, own, _ := strings.Cut(signed, "exp=")
		own = "exp=" + own // exp, kid, sig

		pairs := append(strings.Split(spell(rnd, values), "&"), append(strings.Split(own, "&"), "utm_x=%zz", "v", "")...)
		rnd.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		if q := strings.Join(pairs, "&"); verify(keys, path, q) != nil {
			t.Fatalf("%s and %s: %v", signed, q, verify(keys, path, q))
		}

		changed := maps.Clone(values)
		name := options[rnd.IntN(len(options))]
		if v, ok := changed[name]; ok && rnd.IntN(2) == 0 {
			delete(changed, name)
		} else {
			changed[name] = v + string(rune(rnd.IntN(128)))
		}
		if q := spell(rnd, changed) + "&" + own; verify(keys, path, q) == nil {
			t.Fatalf("%s: accepted as %s", signed, q)
		}
	}
}

// spell writes options in a random order, with random escapes.
func spell(rnd *rand.Rand, values map[string]string) string {
	var pairs []string
	for n, v := range values {
		p := url.PathEscape(v)
		if rnd.IntN(2) == 0 {
			p = strings.ToLower(fmt.Sprintf("% X", v))
			p = strings.ReplaceAll(" "+p, " ", "%")
			if v == "" {
				p = ""
			}
		}
		p = strings.ReplaceAll(p, "&", "%26")
		pairs = append(pairs, n+"="+p)
	}
	return strings.Join(pairs, "&")
}

// TestVerifyAllocates shows that a check before the cache costs no memory.
func TestVerifyAllocates(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all tests
	k := key(t, "k1", secret)
	keys, p, q := []*Key{k}, []byte(path), []byte(sign(t, k, "w=400&h=300&fit=cover&q=80&wm=logo.png,o50", now.Add(time.Hour)))
	unknown := bytes.Replace(q, []byte("kid=k1"), []byte("kid=k2"), 1)
	for name, query := range map[string][]byte{"good": q, "unknown kid": unknown, "unsigned": []byte("w=400")} {
		if n := testing.AllocsPerRun(1000, func() { Verify(keys, p, query, now) }); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := key(b, "k1", secret)
	keys, p := []*Key{k}, []byte(path)
	q := []byte(sign(b, k, "w=400&h=300&fit=cover&q=80", now.Add(time.Hour)))
	for name, query := range map[string][]byte{
		"good": q, "unsigned": []byte("w=400"),
		"unknown-kid": bytes.Replace(q, []byte("kid=k1"), []byte("kid=k2"), 1),
		"hostile":     append(slices.Clone(q), bytes.Repeat([]byte("&w=%00%00%00%00%00%00%00"), 57)...),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Verify(keys, p, query, now)
			}
		})
	}
}
