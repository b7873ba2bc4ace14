// Package signing signs URLs of an ixmage server. It needs nothing but the standard library;
// copy the file.
package signing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signed are the parameters that a signature covers. A program that writes only these into its
// URLs needs no list: it signs all of them.
var signed = strings.Fields(`anim bg bgc blur crop dpr exp f fit flip flop fmt gravity gray grey h hei height
	info kid lqip q quality r sharp sharpen strip t template w wid width wm`)

// Sign returns target, like /shop/a.jpg?w=400, with exp, kid and sig. The path is
// percent-encoded, as it will be sent. kid and secret are a signing key as the API shows it
// once. A zero exp never ends.
func Sign(target, kid, secret string, exp time.Time) (string, error) {
	path, query, _ := strings.Cut(target, "?")
	var pairs []string
	if query != "" {
		pairs = strings.Split(query, "&")
	}
	if !exp.IsZero() {
		pairs = append(pairs, fmt.Sprintf("exp=%d", exp.Unix()))
	}
	pairs = append(pairs, "kid="+kid)

	var canonical []string
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(signed, name) {
			continue
		}
		value, err := url.PathUnescape(value)
		if err != nil {
			return "", fmt.Errorf("parameter %s: %w", name, err)
		}
		canonical = append(canonical, name+"="+strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
	}
	slices.Sort(canonical)
	message := "ixmage-v1\n" + path + "\n" + strings.Join(canonical, "&")

	key, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("secret of key %s: %w", kid, err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	sig := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return path + "?" + strings.Join(pairs, "&") + "&sig=" + sig, nil
}
