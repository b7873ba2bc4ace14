package scope

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

const (
	webResource = `"arn:aws:s3:::media/web/*"`
	readWeb     = `{"Effect":"Allow","Action":"s3:GetObject","Resource":` + webResource + `}`
	decryptVia  = `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-west-1:123456789012:key/k","Condition":{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}}`
)

func webNeeds() []need {
	return needsOf(&Target{Grants: []alias.Grant{{Bucket: "media", Prefix: "web/"}}})
}

func textOf(statements ...string) PolicyText {
	return PolicyText{Name: "p", Text: []byte(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)}
}

// TestRights: what policies allow beyond what a key needs. bounded are the rights that the
// boundary takes away.
func TestRights(t *testing.T) {
	t.Parallel()
	const elsewhere = "arn:aws:s3:::media/private/*"
	for _, row := range []struct {
		name     string
		texts    []string // statements of one policy
		boundary []string
		beyond   string // actions, sorted
		bounded  string
	}{
		{name: "exactly what it needs", texts: []string{readWeb}},
		{name: "nothing", texts: []string{`{"Effect":"Deny","Action":"*","Resource":"*"}`}},
		{name: "a folder of it", texts: []string{allow("s3:GetObject", "arn:aws:s3:::media/web/shop/*")}},
		{name: "one object", texts: []string{allow("s3:getobject", "arn:aws:s3:::media/web/a.png")}},
		{name: "every partition", texts: []string{allow("s3:GetObject", "arn:*:s3:::media/web/*")}},
		{name: "everything", texts: []string{allow("*", "*")}, beyond: "*"},
		{name: "the whole bucket", texts: []string{allow("s3:GetObject", "arn:aws:s3:::media/*")}, beyond: "s3:getobject"},
		{name: "a prefix without its slash", texts: []string{allow("s3:GetObject", "arn:aws:s3:::media/web*")}, beyond: "s3:getobject"},
		{name: "a bucket with a wildcard", texts: []string{allow("s3:GetObject", "arn:aws:s3:::med*/web/*")}, beyond: "s3:getobject"},
		{name: "GetObject with a wildcard", texts: []string{allow("s3:GetObject*", "arn:aws:s3:::media/web/*")}, beyond: "s3:getobject*"},
		{name: "another service", texts: []string{readWeb, allow("dynamodb:*", "*")}, beyond: "dynamodb:*"},
		{name: "its own user", texts: []string{readWeb, allow("iam:PutUserPolicy", "arn:aws:iam::123456789012:user/${aws:username}")}, beyond: "iam:putuserpolicy"},
		{name: "everything but", texts: []string{`{"Effect":"Allow","NotAction":"iam:*","Resource":` + webResource + `}`}, beyond: "everything but iam:*"},
		{name: "every resource but", texts: []string{`{"Effect":"Allow","Action":"s3:GetObject","NotResource":"arn:aws:s3:::other/*"}`}, beyond: "s3:getobject"},
		{name: "under a condition", texts: []string{readWeb, `{"Effect":"Allow","Action":"s3:PutObject","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`}, beyond: "s3:putobject"},
		{name: "a variable in the resource", texts: []string{allow("s3:GetObject", "arn:aws:s3:::media/web/${aws:username}/*")}},
		{name: "a variable for the prefix", texts: []string{allow("s3:GetObject", "arn:aws:s3:::media/${aws:PrincipalTag/team}/*")}, beyond: "s3:getobject"},

		{name: "denied", texts: []string{allow("s3:*", elsewhere), `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`}},
		{name: "denied in part", texts: []string{allow("s3:*", elsewhere), `{"Effect":"Deny","Action":"s3:Put*","Resource":"*"}`}, beyond: "s3:*"},
		{name: "denied on a part", texts: []string{allow("s3:*", elsewhere), `{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::media/private/a/*"}`}, beyond: "s3:*"},
		{name: "denied under a condition", texts: []string{allow("s3:*", elsewhere), `{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringNotEquals":{"aws:SourceVpce":"v"}}}`}, beyond: "s3:*"},
		{name: "denied under an empty condition", texts: []string{allow("s3:*", elsewhere), `{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{}}`}},
		{name: "all actions denied but", texts: []string{allow("s3:*", "arn:aws:s3:::media/web/*"), `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`}},
		{name: "all actions denied but two", texts: []string{allow("s3:*", "arn:aws:s3:::media/web/*"), `{"Effect":"Deny","NotAction":["s3:GetObject","s3:PutObject"],"Resource":"*"}`}, beyond: "s3:*"},
		{name: "all resources denied but", texts: []string{allow("s3:GetObject", "*"), `{"Effect":"Deny","Action":"s3:*","NotResource":` + webResource + `}`}},
		{name: "all denied but", texts: []string{allow("*", "*"), `{"Effect":"Deny","Action":"*","NotResource":` + webResource + `}`, `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`}},
		{name: "denied on a variable", texts: []string{allow("s3:GetObject", elsewhere), `{"Effect":"Deny","Action":"*","Resource":"arn:aws:s3:::media/${aws:PrincipalTag/x}/*"}`}, beyond: "s3:getobject"},
		{name: "denied on an incomplete ARN", texts: []string{allow("s3:GetObject", elsewhere), `{"Effect":"Deny","Action":"*","Resource":"arn:aws:s3"}`}},
		{name: "denied on another partition", texts: []string{allow("s3:GetObject", elsewhere), `{"Effect":"Deny","Action":"*","Resource":"arn:aws-*:s3:::media/*"}`}, beyond: "s3:getobject"},

		{name: "held by its boundary", texts: []string{allow("*", "*")}, boundary: []string{readWeb}, bounded: "*"},
		{name: "wider than its boundary", texts: []string{allow("s3:*", "arn:aws:s3:::media/web/*")}, boundary: []string{allow("s3:GetObject", "*")}, bounded: "s3:*"},
		{name: "a boundary on other actions", texts: []string{readWeb, allow("s3:PutObject", "*")}, boundary: []string{allow("s3:Get*", "*")}, bounded: "s3:putobject"},
		{name: "a boundary that leaves more", texts: []string{allow("*", "*")}, boundary: []string{allow("s3:Get*", "arn:aws:s3:::media/web/*")}, beyond: "*"},
		{name: "a boundary that denies", texts: []string{allow("*", "*")}, boundary: []string{allow("*", "*"), `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`, `{"Effect":"Deny","Action":"*","NotResource":` + webResource + `}`}},
		{name: "a boundary by exclusion", texts: []string{allow("iam:*", "*")}, boundary: []string{`{"Effect":"Allow","NotAction":["iam:*"],"Resource":"*"}`}, bounded: "iam:*"},
		{name: "a boundary with a condition", texts: []string{allow("*", "*")}, boundary: []string{strings.Replace(readWeb, `}`, `,"Condition":{"Null":{"aws:TokenIssueTime":"true"}}}`, 1)}, bounded: "*"},
		{name: "two exclusions that leave nothing", texts: []string{`{"Effect":"Allow","NotAction":"s3:*","Resource":"*"}`}, boundary: []string{readWeb}, bounded: "everything but s3:*"},
		{name: "an empty boundary", texts: []string{allow("*", "*")}, boundary: []string{`{"Effect":"Deny","Action":"iam:*","Resource":"*"}`}, bounded: "*"},

		{name: "decrypt through S3", texts: []string{readWeb, decryptVia}},
		{name: "decrypt directly", texts: []string{readWeb, allow("kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/k")}, beyond: "kms:decrypt"},
		{name: "decrypt with every key", texts: []string{readWeb, strings.Replace(decryptVia, "arn:aws:kms:eu-west-1:123456789012:key/k", "*", 1)}, beyond: "kms:decrypt"},
		{name: "decrypt through another service", texts: []string{readWeb, strings.Replace(decryptVia, "s3.eu", "secretsmanager.eu", 1)}, beyond: "kms:decrypt"},
		{name: "decrypt through S3, says the boundary", texts: []string{readWeb, allow("kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/k")}, boundary: []string{readWeb, decryptVia}, bounded: "kms:decrypt"},
		{name: "decrypt through S3 if it exists", texts: []string{readWeb, strings.Replace(decryptVia, "StringEquals", "StringEqualsIfExists", 1)}, beyond: "kms:decrypt"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := &Policies{User: "u", Texts: []PolicyText{textOf(row.texts...)}}
			if row.boundary != nil {
				b := textOf(row.boundary...)
				p.Boundary = &b
			}
			got := p.beyond(webNeeds())
			if actions := actionsOf(got.Beyond); actions != row.beyond {
				t.Errorf("beyond %q, want %q", actions, row.beyond)
			}
			if actions := actionsOf(got.Bounded); actions != row.bounded {
				t.Errorf("bounded %q, want %q", actions, row.bounded)
			}
			if len(got.Unread)+len(got.Unlimited) > 0 {
				t.Errorf("unread %v, unlimited %v", got.Unread, got.Unlimited)
			}
		})
	}
}

func actionsOf(rights []Right) string {
	var list []string
	for _, r := range rights {
		list = append(list, r.Action)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestRightsUnread: a policy that cannot be understood is named; what another one allows still
// counts, and an unread boundary proves nothing in either direction.
func TestRightsUnread(t *testing.T) {
	t.Parallel()
	p := &Policies{Texts: []PolicyText{textOf(readWeb), {Name: "the inline policy x"}, textOf(allow("s3:*", "*"))}}
	got := p.beyond(webNeeds())
	if actionsOf(got.Beyond) != "s3:*" || !slices.Equal(got.Unread, []string{"the inline policy x"}) {
		t.Errorf("beyond %v, unread %v", got.Beyond, got.Unread)
	}
	p = &Policies{Texts: []PolicyText{textOf(readWeb, allow("s3:*", "*"))}, Boundary: &PolicyText{Name: "b", Text: []byte("{}")}}
	got = p.beyond(webNeeds())
	if len(got.Beyond) > 0 || actionsOf(got.Unlimited) != "s3:*" || len(got.Unread) > 0 {
		t.Errorf("beyond %v, unlimited %v, unread %v", got.Beyond, got.Unlimited, got.Unread)
	}
	p.Texts = p.Texts[:0:0]
	p.Texts = append(p.Texts, textOf(readWeb))
	if got := p.beyond(webNeeds()); len(got.Beyond)+len(got.Unlimited)+len(got.Unread) > 0 {
		t.Errorf("a narrow policy under an unread boundary: %+v", got)
	}
}

// TestRightsTooMany: policies that are too many to compare are not called narrow.
func TestRightsTooMany(t *testing.T) {
	t.Parallel()
	var resources, denies []string
	for i := range 400 {
		resources = append(resources, fmt.Sprintf(`"arn:aws:s3:::media/private/%d/*"`, i))
		denies = append(denies, fmt.Sprintf(`"arn:aws:s3:::*%d*"`, i))
	}
	wide := `{"Effect":"Allow","Action":["s3:Get*","s3:Put*"],"Resource":[` + strings.Join(resources, ",") + `]}`
	deny := `{"Effect":"Deny","Action":"*","NotResource":[` + strings.Join(denies, ",") + `]}`
	boundary := textOf(wide)
	p := &Policies{Texts: []PolicyText{textOf(wide, deny, deny, deny, deny)}, Boundary: &boundary}
	if got := p.beyond(webNeeds()); len(got.Beyond) == 0 || len(got.Unread) == 0 {
		t.Errorf("%d beyond, unread %v", len(got.Beyond), got.Unread)
	}
}

func TestDecodeDocument(t *testing.T) {
	t.Parallel()
	good := []string{
		`{"Version":"2012-10-17","Id":"x","Statement":` + readWeb + `}`,
		`{"Statement":[{"Sid":"a b","Effect":"Deny","NotAction":["s3:*"],"NotResource":["*"],"Condition":{"Bool":{"aws:SecureTransport":false},"NumericLessThan":{"s3:max-keys":[1,2]}}}]}`,
	}
	for _, text := range good {
		if _, err := decodeDocument([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	bad := map[string]string{
		"empty":                 ``,
		"two documents":         `{"Statement":` + readWeb + `}{"Statement":` + readWeb + `}`,
		"no statement":          `{"Version":"2012-10-17"}`,
		"another version":       `{"Version":"2020-01-01","Statement":` + readWeb + `}`,
		"an unknown element":    `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}]}`,
		"another case":          `{"statement":` + readWeb + `}`,
		"another case within":   `{"Statement":[{"effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`,
		"twice":                 `{"Statement":[{"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"}]}`,
		"twice by escape":       `{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","A\u0063tion":"*","Resource":"*"}]}`,
		"both actions":          `{"Statement":[{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}]}`,
		"no resource":           `{"Statement":[{"Effect":"Allow","Action":"*"}]}`,
		"an empty list":         `{"Statement":[{"Effect":"Allow","NotAction":[],"Resource":"*"}]}`,
		"a nested list":         `{"Statement":[{"Effect":"Allow","Action":[["*"]],"Resource":"*"}]}`,
		"null":                  `{"Statement":[{"Effect":"Allow","Action":null,"Resource":"*"}]}`,
		"a half surrogate":      `{"Statement":[{"Effect":"Allow","Action":"\ud800","Resource":"*"}]}`,
		"no UTF-8":              "{\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"\xff\",\"Resource\":\"*\"}]}",
		"a condition as a list": `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":[]}]}`,
		"long":                  `{"Statement":` + readWeb + strings.Repeat(" ", maxDocument) + `}`,
		"deep":                  strings.Repeat(`{"Statement":`, 20) + `1` + strings.Repeat(`}`, 20),
	}
	for name, text := range bad {
		if doc, err := decodeDocument([]byte(text)); err == nil {
			t.Errorf("%s: decoded as %+v", name, doc)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		p, q            string
		within, overlap bool
	}{
		{"a", "a", true, true},
		{"a", "b", false, false},
		{"a*", "*", true, true},
		{"*", "a*", false, true},
		{"a*b", "a*", true, true},
		{"a*b", "*b", true, true},
		{"a*", "*b", false, true},
		{"a?c", "a*c", true, true},
		{"a*c", "a?c", false, true},
		{"a?", "a", false, false},
		{"", "*", true, true},
		{"", "?", false, false},
		{"ab*cd", "a*b*d", true, true},
		{"x*y", "a*", false, false},
		{"*x", "*y", false, false},
		{"s3:get*", "s3:getobject", false, true},
	} {
		if got := within(row.p, row.q); got != row.within {
			t.Errorf("%q within %q: %t", row.p, row.q, got)
		}
		if a, b := overlap(row.p, row.q), overlap(row.q, row.p); a != row.overlap || b != row.overlap {
			t.Errorf("%q and %q overlap: %t, %t", row.p, row.q, a, b)
		}
	}
}

// TestPatternsTexts compares within and overlap with the matching of short texts.
func TestPatternsTexts(t *testing.T) {
	t.Parallel()
	texts := []string{""}
	for i := 0; i < len(texts) && len(texts[i]) < 5; i++ {
		texts = append(texts, texts[i]+"a", texts[i]+"b")
	}
	random := rand.New(rand.NewPCG(1, 2))
	pattern := func() string {
		b := make([]byte, random.IntN(5))
		for i := range b {
			b[i] = "ab*?"[random.IntN(4)]
		}
		return string(b)
	}
	for range 3000 {
		p, q := pattern(), pattern()
		in, common := true, false
		for _, text := range texts {
			inP, inQ := within(text, p), within(text, q)
			in = in && (!inP || inQ)
			common = common || inP && inQ
		}
		if within(p, q) && !in {
			t.Fatalf("%q is not within %q", p, q)
		}
		if overlap(p, q) != common {
			t.Fatalf("%q and %q overlap: %t, want %t", p, q, overlap(p, q), common)
		}
	}
}

// TestRightsAgainstFake: whatever the fake allows a user beyond what its alias needs is found.
func TestRightsAgainstFake(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.AddUser("/", "u", "")
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	found, clean := 0, 0
	for i := range rounds() {
		texts := make([]string, 1+random.IntN(2))
		for i := range texts {
			texts[i] = randomDocument(pick, random)
		}
		p := &Policies{User: "u"}
		f.ChangeUser("u", func(u *iam.User) {
			u.Inline, u.Boundary = map[string]string{}, ""
			for i, text := range texts {
				u.Inline[fmt.Sprint(i)] = text
				p.Texts = append(p.Texts, PolicyText{fmt.Sprint(i), []byte(text)})
			}
		})
		if random.IntN(2) == 0 {
			text := randomDocument(pick, random)
			arn := f.AddPolicy("/", fmt.Sprint("b", i), text)
			f.ChangeUser("u", func(u *iam.User) { u.Boundary = arn })
			p.Boundary = &PolicyText{"b", []byte(text)}
		}
		got := p.beyond(webNeeds())
		over := 0
		for _, action := range askedActions {
			for _, resource := range askedResources {
				needed := action == "s3:GetObject" && strings.HasPrefix(resource, "arn:aws:s3:::media/web/")
				if needed || !f.Allows("u", action, resource) {
					continue
				}
				over++
				if !slices.ContainsFunc(got.Beyond, func(r Right) bool { return r.may(action, resource) }) {
					t.Fatalf("%s on %s is allowed and was not found: %v\npolicies %s\nboundary %s", action, resource, got.Beyond, texts, p.Boundary.text())
				}
			}
		}
		if over > 0 {
			found++
		} else if len(got.Beyond) == 0 {
			clean++
		}
	}
	if found < rounds()/10 || clean < rounds()/10 {
		t.Errorf("%d policies with too many rights, %d without: the test tests little", found, clean)
	}
}

func (p *PolicyText) text() string {
	if p == nil {
		return ""
	}
	return string(p.Text)
}

func rounds() int {
	if testing.Short() {
		return 100
	}
	return 1000
}

var (
	askedActions   = []string{"s3:GetObject", "s3:PutObject", "s3:GetObjectAcl", "s3:ListBucket", "iam:PutUserPolicy", "iam:CreateAccessKey", "dynamodb:Scan"}
	askedResources = []string{
		"arn:aws:s3:::media/web/a.png", "arn:aws:s3:::media/private/p.png", "arn:aws:s3:::media", "arn:aws:s3:::other/web/a.png",
		"arn:aws:iam::123456789012:user/u", "arn:aws:iam::123456789012:user/v", "arn:aws:dynamodb:eu-west-1:123456789012:table/t",
	}
)

// randomDocument is a policy of parts that meet often.
func randomDocument(pick func([]string) string, random *rand.Rand) string {
	list := func(from []string) string {
		if random.IntN(2) == 0 {
			return `"` + pick(from) + `"`
		}
		return `["` + pick(from) + `","` + pick(from) + `"]`
	}
	var statements []string
	for range 1 + random.IntN(3) {
		effect := pick([]string{"Allow", "Allow", "Deny"})
		st := fmt.Sprintf(`{"Effect":%q,%q:%s,%q:%s`, effect,
			pick([]string{"Action", "Action", "Action", "NotAction"}), list([]string{
				"*", "s3:*", "s3:Get*", "s3:GetObject", "S3:getobject", "s3:?etObject", "s3:PutObject", "iam:*", "iam:Put*", "dynamodb:*",
			}),
			pick([]string{"Resource", "Resource", "Resource", "NotResource"}), list([]string{
				"*", "arn:aws:s3:::*", "arn:aws:s3:::media/*", "arn:aws:s3:::media/web/*", "arn:aws:s3:::media/web*", "arn:aws:s3:::*/web/*",
				"arn:aws:s3:::media", "arn:aws:s3", "arn:aws:*:*:*:*", "arn:*:s3:::media/web/a.png", "arn:aws:iam::*:user/${aws:username}", "arn:aws:s3:::media/web/${aws:username}",
			}))
		if random.IntN(4) == 0 {
			st += `,"Condition":{"StringEquals":{"aws:username":"` + pick([]string{"u", "v"}) + `"}}`
		}
		statements = append(statements, st+"}")
	}
	return document(statements...)
}

func FuzzDecodeDocument(f *testing.F) {
	f.Add([]byte(document(readWeb, decryptVia)), []byte(document(allow("s3:*", "arn:aws:s3:::m*/${aws:username}"))))
	f.Add([]byte(document(`{"Effect":"Deny","NotAction":"s3:GetObject","NotResource":"arn:aws:s3"}`, allow("*", "*"))), []byte(`{"Statement":[]}`))
	f.Fuzz(func(t *testing.T, text, boundary []byte) {
		p := &Policies{User: "u", Texts: []PolicyText{{"p", text}}, Boundary: &PolicyText{"b", boundary}}
		got := p.beyond(webNeeds())
		doc, err := decodeDocument(text)
		if (err != nil) != slices.Contains(got.Unread, "p") {
			t.Fatalf("decoded: %v, unread %v", err, got.Unread)
		}
		for _, r := range slices.Concat(got.Beyond, got.Bounded, got.Unlimited) {
			if doc == nil || strings.ContainsFunc(r.String(), func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%q of %s", r.String(), text)
			}
		}
		if doc == nil {
			return
		}
		// Without its boundary a user has no fewer rights.
		p.Boundary = nil
		if more := p.beyond(webNeeds()); len(more.Beyond) < len(got.Beyond)+len(got.Unlimited) && len(more.Unread) == 0 {
			t.Fatalf("%d rights with a boundary, %d without", len(got.Beyond), len(more.Beyond))
		}
	})
}
