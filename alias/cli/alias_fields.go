package cli

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// aliasFields are the fields of an alias as flags. A field without its flag is left to the
// server. Values are not checked here: the server reports errors.
type aliasFields struct {
	Bucket      *string `help:"Bucket." placeholder:"NAME"`
	BucketOwner *string `help:"12-digit id of the account that owns the bucket; S3 then refuses a bucket of another account." placeholder:"ACCOUNT"`
	Prefix      *string `help:"Text in front of every key, like website-images/." placeholder:"PREFIX"`
	Region      *string `help:"Region of the bucket." placeholder:"REGION"`
	Endpoint    *string `help:"URL of an S3-compatible server that is not AWS." placeholder:"URL"`
	PathStyle   *bool   `negatable:"" help:"Address objects as host/bucket/key."`

	Enabled *bool   `negatable:"" help:"Serve pictures. Every key of a disabled alias is 404."`
	Canary  *string `help:"Path of an object that must be readable. It decides what AccessDenied of S3 means." placeholder:"PATH"`

	TTL                  *string `name:"ttl" help:"How long an object without a lifetime of its own is fresh, like 1h." placeholder:"DURATION"`
	NegativeTTL          *string `name:"negative-ttl" help:"How long a negative entry (404 of S3) is used." placeholder:"DURATION"`
	StaleWhileRevalidate *string `help:"How long a stale object is served while it is revalidated." placeholder:"DURATION"`
	StaleIfError         *string `help:"How long a stale object is served while S3 fails." placeholder:"DURATION"`
	CacheControl         *string `help:"Cache-Control of the answers, instead of that of the object." placeholder:"TEXT"`
	CacheMin             *string `help:"Part of the memory tier that other aliases cannot take, like 64MiB." placeholder:"SIZE"`
	CacheMax             *string `help:"Limit of the memory tier for this alias." placeholder:"SIZE"`

	Transforms *string  `help:"Which requests may ask for transformed pictures: off, templates, signed or open." placeholder:"MODE" completion:"transforms"`
	Access     *string  `help:"Which requests are answered: open, or signed for those with a signature only." placeholder:"MODE" completion:"access"`
	Widths     []string `help:"Widths in pixels, ascending and separated by commas, that requests without a signature may have; none: no width." placeholder:"WIDTH"`
	Template   []string `sep:"none" help:"Template, as in thumb=w=240&h=240&fit=cover; NAME= removes one. May be given more than once." placeholder:"NAME=QUERY"`

	CORSOrigins     []string `name:"cors-origins" help:"Origins, separated by commas, whose scripts may read the pictures; * is all." placeholder:"ORIGIN"`
	CORSHeaders     []string `name:"cors-headers" help:"Request headers that these scripts may send." placeholder:"NAME"`
	Fallback        *string  `help:"Path of a placeholder: a picture that is served instead of an error." placeholder:"PATH" xor:"missing,broken"`
	FallbackMissing *string  `help:"Placeholder for 404 only." placeholder:"PATH" xor:"missing"`
	FallbackBroken  *string  `help:"Placeholder for 502, 503 and 504 only." placeholder:"PATH" xor:"broken"`
}

// body makes the members of a request from the flags that were given.
func (f *aliasFields) body() map[string]any {
	body := membersOf(f)
	if f.Widths != nil {
		body["widths"] = widths(f.Widths)
	}
	if delete(body, "template"); f.Template != nil {
		body["templates"] = templates(f.Template)
	}
	fallback := map[string]any{}
	for _, when := range []string{"missing", "broken"} {
		if path, ok := body["fallback_"+when]; ok {
			fallback[when] = path
			delete(body, "fallback_"+when)
		}
	}
	if len(fallback) > 0 {
		body["fallback"] = fallback
	}
	return body
}

// widths are numbers where they can be; the server reports the others.
func widths(texts []string) []any {
	list := []any{}
	if slices.Equal(texts, []string{"none"}) {
		return list
	}
	for _, text := range texts {
		if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
			list = append(list, n)
			continue
		}
		list = append(list, text)
	}
	return list
}

// templates is a merge patch of texts NAME=QUERY. Without a query, the template is removed.
func templates(texts []string) map[string]any {
	patch := map[string]any{}
	for _, text := range texts {
		name, query, found := strings.Cut(text, "=")
		if patch[name] = query; found && query == "" {
			patch[name] = nil
		}
	}
	return patch
}

// membersOf makes members from the flags that were given, the fields of a struct that are
// not nil.
func membersOf(flags any) map[string]any {
	body := map[string]any{}
	v := reflect.ValueOf(flags).Elem()
	for i := range v.NumField() {
		if field := v.Field(i); !field.IsNil() {
			body[memberOf(v.Type().Field(i))] = field.Interface()
		}
	}
	return body
}

// memberOf names the member of the API for a flag, which kong names after the field
// unless a tag does.
func memberOf(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return jsonName(name)
	}
	var b strings.Builder
	for i, r := range f.Name {
		if 'A' <= r && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// jsonName is the name in the API of what a flag calls name.
func jsonName(flag string) string { return strings.ReplaceAll(strings.TrimSpace(flag), "-", "_") }
