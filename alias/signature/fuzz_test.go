package signature

import (
	"strings"
	"testing"
	"time"
)

// FuzzVerify: nothing but another spelling of what was signed is accepted. The spelling of
// a path, of sig and of names is the only one; queries are compared by a reader of the
// test's own.
func FuzzVerify(f *testing.F) {
	k := key(f, "k1", secret)
	signed := sign(f, k, "w=400&wm=a%2Fb,o50&t=", now.Add(time.Hour))
	want := meaning(signed)
	f.Add(path, signed)
	f.Add(path, strings.Replace(signed, "w=400", "w=%34%30%30", 1)+"&utm_x=1")
	f.Add(path, strings.Replace(signed, "w=400", "w=4000", 1))
	f.Add(path, "sig&kid&exp")
	f.Add(path+"\n", signed)
	f.Fuzz(func(t *testing.T, p, query string) {
		if verify([]*Key{k}, p, query) == nil && (p != path || meaning(query) != want) {
			t.Errorf("%q?%q is accepted", p, query)
		}
	})
}

// meaning is what a query says: its known names and decoded values, in an order.
func meaning(query string) string {
	values := map[string][]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = append(values[name], value)
	}
	var b strings.Builder
	for _, name := range Names {
		for _, v := range values[name] {
			b.WriteString(name + "=")
			for len(v) > 0 {
				if v[0] == '%' && len(v) > 2 {
					b.WriteByte(unhex(v[1])<<4 | unhex(v[2]))
					v = v[3:]
					continue
				}
				b.WriteByte(v[0])
				v = v[1:]
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// FuzzMessage: the canonical query is its own canonical form, and what Sign signs is
// verified.
func FuzzMessage(f *testing.F) {
	k := key(f, "k1", secret)
	for _, q := range []string{"", "w=1&h=2", "wm=a+b%2f%c3%A9,&info&t=", "&&==&exp=1", "bg=%", "width=1&wid=2&w=3"} {
		f.Add("/shop/a.jpg", q)
	}
	f.Fuzz(func(t *testing.T, p, query string) {
		message, err := Message(p, query)
		if err != nil {
			return
		}
		canonical, ok := strings.CutPrefix(message, version+p+"\n")
		if !ok || strings.ContainsAny(canonical, "\n+ ") {
			t.Errorf("%q: message %q", query, message)
		}
		if len(canonical) <= MaxQuery {
			if again, err := Message(p, canonical); err != nil || again != message {
				t.Errorf("%q: %q becomes %q, %v", query, message, again, err)
			}
		}
		signed, err := k.Sign(p, query, now.Add(time.Hour))
		if err != nil {
			return
		}
		if err := verify([]*Key{k}, p, signed); err != nil {
			t.Errorf("%q is signed as %q and refused: %v", query, signed, err)
		}
	})
}
