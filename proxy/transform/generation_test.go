package transform

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// TestGeneration: what the options mean to a worker changes only together with the names of variants.
func TestGeneration(t *testing.T) {
	t.Parallel()
	const generation, want = 1, "1ab5ea163b8dc94b"
	sum := sha256.New()
	for _, query := range []string{
		"f=auto", "w=400", "h=300&dpr=2", "w=400&h=300", "w=400&h=300&fit=cover&gravity=smart", "w=9&h=9&fit=cover&gravity=0.1,0.9",
		"w=9&h=9&fit=fill", "w=9&h=9&fit=outside", "w=9&h=9&fit=inside", "crop=1,2,30,40&r=90&flip=h", "bg=f0a&blur=2&sharpen=1&gray=1",
		"q=33", "strip=copyright&anim=0", "wm=a.png,northwest,o50,s20", "wm=a.png,tile", "lqip=1", "lqip=blurhash", "info=1",
	} {
		o := mustParse(t, query)
		for f := JPEG; f <= Raw; f++ {
			j := Job{Task: o.Task(f), Source: Blob{Header: Header{Type: JPEG}, Size: 1}}
			if o.Mark() != "" {
				j.Mark = &Blob{Header: Header{Type: PNG}, Size: 1}
			}
			sum.Write(appendRequest(nil, &j, 0))
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)[:8]); got != want || generation != Generation {
		t.Errorf("the same options are other work: raise Generation, unless no released version has the old one, and set want to %s", got)
	}
}
