package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
)

// variant is the URL of a transformed picture.
type variant struct{ title, url string }

// templates are those of the alias shop.
var templates = map[string]string{
	"thumb": "w=240&h=240&fit=cover&gravity=smart",
	"card":  "w=480&h=270&fit=cover&q=70",
}

// transform gives the alias shop its templates and a signing key, and signs a URL.
func (d *demo) transform(ctx context.Context) error {
	p, ok := d.decodable("image/jpeg", "image/png", "image/webp", "image/avif", "image/gif")
	if d.worker == "" || !ok {
		return nil
	}
	const alias = "/api/v1/aliases/shop"
	if err := d.server.send(ctx, "PATCH "+alias, map[string]any{"templates": templates}, nil); err != nil {
		return fmt.Errorf("set the templates of alias shop: %w", err)
	}
	if err := d.server.call(ctx, alias+"/signing-keys", nil, nil); err != nil {
		return fmt.Errorf("make a signing key of alias shop: %w", err)
	}
	query := "w=420&gray=1&f=jpeg"
	if mark, ok := d.decodable("image/png"); ok {
		query = "w=420&f=jpeg&wm=" + url.QueryEscape(mark.name) + ",southeast,o90,s30"
	}
	var signed struct {
		URL string `json:"url"`
	}
	plain := (&url.URL{Path: "/shop/" + p.name}).EscapedPath()
	request := map[string]any{"path": plain + "?" + query, "expires_in": "24h"}
	if err := d.server.call(ctx, alias+"/sign", request, &signed); err != nil {
		return fmt.Errorf("sign a URL of alias shop: %w", err)
	}
	base := "http://" + d.server.public
	plain = base + plain
	d.variants = []variant{
		{"a width, which is rounded up to 250", plain + "?w=200"},
		{"the template thumb: " + templates["thumb"], plain + "?t=thumb"},
		{"the template card: " + templates["card"], plain + "?t=card"},
		{"other options need a signature, here with a watermark and until tomorrow", base + signed.URL},
	}
	return nil
}

// decodable returns the first picture of one of these types, the first type first.
func (d *demo) decodable(types ...string) (object, bool) {
	for _, t := range types {
		if i := slices.IndexFunc(d.pictures, func(p object) bool { return p.contentType == t }); i >= 0 {
			return d.pictures[i], true
		}
	}
	return object{}, false
}

func (d *demo) showVariants() {
	if d.worker == "" {
		fmt.Fprint(d.out, "\ntransforms are off: there is no bin/ixmage-worker; "+
			"make worker builds it, or says what it needs\n")
		return
	}
	for i, v := range d.variants {
		if i == 0 {
			fmt.Fprint(d.out, "\npictures of alias shop, transformed\n")
		}
		fmt.Fprintf(d.out, "\n  %s\n\n    %s\n", v.title, v.url)
	}
}
