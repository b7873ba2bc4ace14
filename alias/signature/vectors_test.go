package signature

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// TestVectors reads the vectors that the examples of signers are tested with.
func TestVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/examples/signing/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Path, Query, Key, KID, Message, Sig, Signed string

		Exp *int64
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	signed := "&"
	for _, v := range vectors {
		k, exp := key(t, v.KID, v.Key), time.Time{}
		if v.Exp != nil {
			exp = time.Unix(*v.Exp, 0)
		}
		query, err := k.Sign(v.Path, v.Query, exp)
		if got := v.Path + "?" + query; err != nil || got != v.Signed || !strings.HasSuffix(got, "&sig="+v.Sig) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", v.Name, err, got, v.Signed)
		}
		if got, err := Message(v.Path, query); err != nil || got != v.Message {
			t.Errorf("%s: %v\ngot  %q\nwant %q", v.Name, err, got, v.Message)
		}
		got, kid, err := Verify([]*Key{k}, []byte(v.Path), []byte(query), time.Time{})
		if err != nil || !got.Equal(exp) || kid != v.KID {
			t.Errorf("%s: %v, %s, %v", v.Name, got, kid, err)
		}
		_, canonical, _ := strings.Cut(v.Message, v.Path+"\n")
		signed += canonical + "&"
	}
	for _, n := range Names {
		if n != "sig" && !strings.Contains(signed, "&"+n+"=") {
			t.Errorf("no vector signs %s", n)
		}
	}
}
