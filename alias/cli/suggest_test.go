package cli

import "testing"

func TestClosest(t *testing.T) {
	t.Parallel()
	names := []string{"shop", "shop-old", "blog", "website-images"}
	for name, want := range map[string]string{
		"shpo": "shop", "sho": "shop", "shopp": "shop", "blgo": "blog", "website-imags": "website-images", "websiteimage": "website-images",
		"xxxx": "", "": "", "s": "", "zebra": "", "shop-ol": "shop-old",
	} {
		if got := closest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for _, row := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0}} {
		if got := distance(row.a, row.b); got != row.want || distance(row.b, row.a) != got {
			t.Errorf("%q to %q: %d, want %d", row.a, row.b, got, row.want)
		}
	}
}
