package spelling

import "testing"

func TestClosest(t *testing.T) {
	t.Parallel()
	names := []string{"shop", "shop-old", "blog", "website-images"}
	for name, want := range map[string]string{
		"shpo": "shop", "sho": "shop", "shopp": "shop", "blgo": "blog", "website-imags": "website-images", "websiteimage": "website-images",
		"xxxx": "", "": "", "zebra": "", "shop-ol": "shop-old",
	} {
		if got := Closest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
