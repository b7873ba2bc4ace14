package client

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestValue(t *testing.T) {
	t.Parallel()
	const text = `{"z":{"b":12345678901234567890,"a":"<&>"},"list":["x",1.50,true,null],"none":[],"empty":{},"no":false}`
	v, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.MarshalJSON()
	if err != nil || string(again) != text {
		t.Errorf("encoded again: %s, %v", again, err)
	}
	for want, got := range map[string]string{
		"12345678901234567890": v.Get("z", "b").Text(), "<&>": v.Get("z", "a").Text(), "x,1.50,true,": v.Get("list").Text(),
		"": v.Get("z", "b", "missing").Text() + v.Get("none").Text() + v.Get("nothing").Text(), "{}": v.Get("empty").Text(),
	} {
		if got != want {
			t.Errorf("text %q, want %q", got, want)
		}
	}
	if !v.Get("no").IsFalse() || v.Get("gone").IsFalse() || v.Get("none").IsNull() || !v.Get("gone").IsNull() || v.Get("list").Int() != 0 {
		t.Error("a kind is wrong")
	}
	for _, bad := range []string{"", "{", "[1", `{"a"`, `{"a":}`, "1 2", "nil", `{1:2}`} {
		if v, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q is decoded as %v", bad, v)
		}
	}
}

// FuzzDecode: what encoding/json decodes, Decode does too, and it comes out the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":null}],"a":2}`, `"\u2028"`, `[]`, `{} 1`, `1e400`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Decode(text)
		if (err == nil) != json.Valid(text) {
			t.Fatalf("error %v, but valid is %t", err, json.Valid(text))
		}
		if err != nil {
			return
		}
		once, err := v.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		w, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, _ := w.MarshalJSON()
		if !bytes.Equal(once, twice) {
			t.Errorf("%s became %s", once, twice)
		}
	})
}
