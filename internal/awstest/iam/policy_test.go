package iam_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	fakeiam "ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// statements makes a policy of statements that are written with ' for ".
func statements(list ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.ReplaceAll(strings.Join(list, ","), "'", `"`) + `]}`
}

func TestEvaluates(t *testing.T) {
	t.Parallel()
	const (
		yes, no, denied = "allowed", "implicitDeny", "explicitDeny"
		get             = "s3:GetObject"
		a               = "arn:aws:s3:::b/p/a.jpg"
		all             = `{'Effect':'Allow','Action':'*','Resource':'*'}`
	)
	if1 := func(condition string) []string {
		return []string{`{'Effect':'Allow','Action':'*','Resource':'*','Condition':{` + condition + `}}`}
	}
	for _, tt := range []struct {
		name             string
		policy           []string
		boundary         []string
		action, resource string
		conditions       []string
		want             string
	}{
		{"nothing", []string{`{'Effect':'Allow','Action':'s3:PutObject','Resource':'*'}`}, nil, get, a, nil, no},
		{"exact", []string{`{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::b/p/a.jpg'}`}, nil, get, a, nil, yes},
		{"lists", []string{`{'Effect':'Allow','Action':['s3:X','s3:GetObject'],'Resource':['arn:aws:s3:::c','arn:aws:s3:::b/p/*']}`}, nil, get, a, nil, yes},
		{"action in other case", []string{`{'Effect':'Allow','Action':'S3:getobject','Resource':'*'}`}, nil, get, a, nil, yes},
		{"action wildcard", []string{`{'Effect':'Allow','Action':'s3:Get*','Resource':'*'}`}, nil, get, a, nil, yes},
		{"action with ?", []string{`{'Effect':'Allow','Action':'s3:GetObjec?','Resource':'*'}`}, nil, get, a, nil, yes},
		{"action is no prefix", []string{`{'Effect':'Allow','Action':'s3:GetObject','Resource':'*'}`}, nil, "s3:GetObjectAcl", a, nil, no},
		{"resource in other case", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/P/*'}`}, nil, get, a, nil, no},
		{"resource with ?", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/?/a.jpg'}`}, nil, get, a, nil, yes},
		{"prefix of a sibling", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/p/*'}`}, nil, get, "arn:aws:s3:::b/p-x/a", nil, no},
		{"two stars", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::*/p/*.jpg'}`}, nil, get, a, nil, yes},
		{"star ends at a colon", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:*:s3:::c/*'}`}, nil, get, a, nil, no},
		{"other service", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:iam::*:*'}`}, nil, get, a, nil, no},
		{"partition", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws-cn:s3:::b/*'}`}, nil, get, a, nil, no},
		{"explicit deny wins", []string{all, `{'Effect':'Deny','Action':'s3:*','Resource':'*'}`}, nil, get, a, nil, denied},
		{"deny elsewhere", []string{all, `{'Effect':'Deny','Action':'s3:*','Resource':'arn:aws:s3:::c/*'}`}, nil, get, a, nil, yes},
		{"NotAction", []string{`{'Effect':'Allow','NotAction':'iam:*','Resource':'*'}`}, nil, get, a, nil, yes},
		{"NotAction covers", []string{`{'Effect':'Allow','NotAction':'s3:*','Resource':'*'}`}, nil, get, a, nil, no},
		{"NotResource", []string{all, `{'Effect':'Deny','Action':'*','NotResource':'arn:aws:s3:::b/*'}`}, nil, get, a, nil, yes},
		{"NotResource denies", []string{all, `{'Effect':'Deny','Action':'*','NotResource':'arn:aws:s3:::c/*'}`}, nil, get, a, nil, denied},
		{"boundary allows too", []string{all}, []string{`{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::b/*'}`}, get, a, nil, yes},
		{"boundary does not", []string{all}, []string{`{'Effect':'Allow','Action':'s3:GetObject','Resource':'arn:aws:s3:::c/*'}`}, get, a, nil, no},
		{"boundary denies", []string{all}, []string{all, `{'Effect':'Deny','Action':'s3:*','Resource':'*'}`}, get, a, nil, denied},
		{"boundary grants nothing", []string{`{'Effect':'Allow','Action':'x:y','Resource':'*'}`}, []string{all}, get, a, nil, no},
		{"variable", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/${aws:username}/*'}`}, nil, get, "arn:aws:s3:::b/u/a", []string{"aws:username=u"}, yes},

		{"StringEquals", if1(`'StringEquals':{'aws:RequestTag/t':'v'}`), nil, get, a, []string{"aws:RequestTag/t=v"}, yes},
		{"StringEquals other", if1(`'StringEquals':{'aws:RequestTag/t':'v'}`), nil, get, a, []string{"aws:RequestTag/t=w"}, no},
		{"StringEquals absent", if1(`'StringEquals':{'aws:RequestTag/t':'v'}`), nil, get, a, nil, no},
		{"StringEquals knows no star", if1(`'StringEquals':{'k:k':'v*'}`), nil, get, a, []string{"k:k=vv"}, no},
		{"one of several", if1(`'StringEquals':{'k:k':['v','w']}`), nil, get, a, []string{"k:k=w"}, yes},
		{"key in other case", if1(`'StringEquals':{'K:K':'v'}`), nil, get, a, []string{"k:k=v"}, yes},
		{"two keys, one wrong", if1(`'StringEquals':{'k:k':'v','k:l':'v'}`), nil, get, a, []string{"k:k=v", "k:l=w"}, no},
		{"two operators, one wrong", if1(`'StringEquals':{'k:k':'v'},'Bool':{'k:b':'true'}`), nil, get, a, []string{"k:k=v", "k:b=false"}, no},
		{"StringNotEquals", if1(`'StringNotEquals':{'k:k':'v'}`), nil, get, a, []string{"k:k=w"}, yes},
		{"escaped letters", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/Gr\u00f6\u00dfe \ud83d\udca5/*'}`}, nil, get, "arn:aws:s3:::b/Größe 💥/a b", nil, yes},
		{"escaped letters, another folder", []string{`{'Effect':'Allow','Action':'*','Resource':'arn:aws:s3:::b/Gr\u00f6\u00dfe/*'}`}, nil, get, "arn:aws:s3:::b/Gro\u0308ße/a", nil, no},
		{"StringNotEquals same", if1(`'StringNotEquals':{'k:k':'v'}`), nil, get, a, []string{"k:k=v"}, no},
		{"StringNotEquals absent", if1(`'StringNotEquals':{'k:k':'v'}`), nil, get, a, nil, yes},
		{"StringLike", if1(`'StringLike':{'s3:prefix':'p/*'}`), nil, get, a, []string{"s3:prefix=p/x"}, yes},
		{"StringLike other", if1(`'StringLike':{'s3:prefix':'p/*'}`), nil, get, a, []string{"s3:prefix=q/x"}, no},
		{"ArnEquals", if1(`'ArnEquals':{'iam:PolicyARN':'arn:aws:iam::aws:policy/X'}`), nil, get, a, []string{"iam:PolicyARN=arn:aws:iam::aws:policy/X"}, yes},
		{"ArnEquals other", if1(`'ArnEquals':{'iam:PolicyARN':'arn:aws:iam::aws:policy/X'}`), nil, get, a, []string{"iam:PolicyARN=arn:aws:iam::aws:policy/Y"}, no},
		{"ArnLike", if1(`'ArnLike':{'iam:PolicyARN':'arn:aws:iam::*:policy/X*'}`), nil, get, a, []string{"iam:PolicyARN=arn:aws:iam::aws:policy/Xy"}, yes},
		{"Bool", if1(`'Bool':{'aws:SecureTransport':'true'}`), nil, get, a, []string{"aws:SecureTransport=true"}, yes},
		{"Bool without quotes", if1(`'Bool':{'aws:SecureTransport':true}`), nil, get, a, []string{"aws:SecureTransport=true"}, yes},
		{"Bool other", if1(`'Bool':{'aws:SecureTransport':'true'}`), nil, get, a, []string{"aws:SecureTransport=false"}, no},
		{"Bool absent", if1(`'Bool':{'aws:SecureTransport':'true'}`), nil, get, a, nil, no},
		{"BoolIfExists absent", if1(`'BoolIfExists':{'aws:SecureTransport':'true'}`), nil, get, a, nil, yes},
		{"Null wants it absent", if1(`'Null':{'k:k':'true'}`), nil, get, a, []string{"k:k=v"}, no},
		{"Null wants it there", if1(`'Null':{'k:k':'false'}`), nil, get, a, []string{"k:k=v"}, yes},
		{"IpAddress", if1(`'IpAddress':{'aws:SourceIp':'10.0.0.0/8'}`), nil, get, a, []string{"aws:SourceIp=10.1.2.3"}, yes},
		{"IpAddress outside", if1(`'IpAddress':{'aws:SourceIp':'10.0.0.0/8'}`), nil, get, a, []string{"aws:SourceIp=11.1.2.3"}, no},
		{"NotIpAddress", if1(`'NotIpAddress':{'aws:SourceIp':'10.0.0.0/8'}`), nil, get, a, []string{"aws:SourceIp=11.1.2.3"}, yes},
		{"ForAllValues", if1(`'ForAllValues:StringEquals':{'aws:TagKeys':['x','y']}`), nil, get, a, []string{"aws:TagKeys=x|y"}, yes},
		{"ForAllValues one more", if1(`'ForAllValues:StringEquals':{'aws:TagKeys':['x','y']}`), nil, get, a, []string{"aws:TagKeys=x|z"}, no},
		{"ForAllValues of none", if1(`'ForAllValues:StringEquals':{'aws:TagKeys':['x','y']}`), nil, get, a, nil, yes},
		{"ForAnyValue", if1(`'ForAnyValue:StringEquals':{'aws:TagKeys':['x','y']}`), nil, get, a, []string{"aws:TagKeys=z|y"}, yes},
		{"ForAnyValue of none", if1(`'ForAnyValue:StringEquals':{'aws:TagKeys':['x','y']}`), nil, get, a, nil, no},
		{"deny by condition", []string{all, `{'Effect':'Deny','Action':'*','Resource':'*','Condition':{'Bool':{'aws:SecureTransport':'false'}}}`}, nil, get, a, []string{"aws:SecureTransport=false"}, denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			boundary := ""
			if tt.boundary != nil {
				boundary = statements(tt.boundary...)
			}
			if got := simulated(t, statements(tt.policy...), boundary, tt.action, tt.resource, tt.conditions...); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// simulated is the result of a simulation for a user with a policy and a boundary.
func simulated(t *testing.T, policy, boundary, action, resource string, conditions ...string) string {
	t.Helper()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/team/", "u", policy)
	if boundary != "" {
		arn := s.AddPolicy("/", "boundary", boundary)
		s.ChangeUser("u", func(u *fakeiam.User) { u.Boundary = arn })
	}
	in := &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: aws.String("arn:aws:iam::123456789012:user/team/u"), ActionNames: []string{action}, ResourceArns: []string{resource},
	}
	for _, c := range conditions {
		key, value, _ := strings.Cut(c, "=")
		in.ContextEntries = append(in.ContextEntries, iamtypes.ContextEntry{
			ContextKeyName: &key, ContextKeyType: iamtypes.ContextKeyTypeEnumString, ContextKeyValues: strings.Split(value, "|"),
		})
	}
	out, err := s.IAMClient(s.Root).SimulatePrincipalPolicy(ctx, in)
	must(t, err)
	return string(out.EvaluationResults[0].EvalDecision)
}

func TestRefusesDocuments(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/", "u", "")
	root := s.IAMClient(s.Root)
	const malformed, limit = "400 MalformedPolicyDocument", "409 LimitExceeded"
	for _, tt := range []struct{ name, document, want string }{
		{"good", statements(`{'Sid':'specBucketPolicy0','Effect':'Allow','Action':['s3:GetObject'],'Resource':['arn:aws:s3:::b/*']}`), ""},
		{"one statement without a list", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`, ""},
		{"no JSON", `hello`, malformed},
		{"two documents", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'*'}`) + "{}", malformed},
		{"other version", `{"Version":"2013-01-01","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`, malformed},
		{"no statement", statements(), malformed},
		{"effect", statements(`{'Effect':'Permit','Action':'s3:*','Resource':'*'}`), malformed},
		{"no action", statements(`{'Effect':'Allow','Resource':'*'}`), malformed},
		{"action and not action", statements(`{'Effect':'Allow','Action':'s3:*','NotAction':'s3:*','Resource':'*'}`), malformed},
		{"action without a service", statements(`{'Effect':'Allow','Action':'GetObject','Resource':'*'}`), malformed},
		{"no resource", statements(`{'Effect':'Allow','Action':'s3:*'}`), malformed},
		{"resource without arn", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'bucket/*'}`), malformed},
		{"principal", statements(`{'Effect':'Allow','Principal':'*','Action':'s3:*','Resource':'*'}`), malformed},
		{"sid with a hyphen", statements(`{'Sid':'a-b','Effect':'Allow','Action':'s3:*','Resource':'*'}`), malformed},
		{"sid twice", statements(`{'Sid':'a','Effect':'Allow','Action':'s3:*','Resource':'*'}`, `{'Sid':'a','Effect':'Deny','Action':'s3:*','Resource':'*'}`), malformed},
		{"unknown element", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'*','Extra':'x'}`), malformed},
		{"small letters", statements(`{'effect':'Allow','Action':'s3:*','Resource':'*'}`), malformed},
		{"letters beyond ASCII", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'arn:aws:s3:::b/ö/*'}`), "400 ValidationError"},
		{"escaped letters", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'arn:aws:s3:::b/\u00f6/*'}`), ""},
		{"too long", statements(`{'Effect':'Allow','Action':'s3:*','Resource':'arn:aws:s3:::b/` + strings.Repeat("x", 2048) + `'}`), limit},
		{"long by spaces only", statements(`{'Effect':'Allow','Action':'s3:*',` + strings.Repeat(" ", 4096) + `'Resource':'*'}`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := root.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("u"), PolicyName: aws.String("p"), PolicyDocument: &tt.document})
			wantRefused(t, "PutUserPolicy", err, tt.want)
			want := tt.want
			if want == limit {
				want = "" // a managed policy may be three times as long
			}
			_, err = root.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String(strings.ReplaceAll(tt.name, " ", "-")), PolicyDocument: &tt.document})
			wantRefused(t, "CreatePolicy", err, want)
		})
	}
}

// TestUnknownOperator: an unknown condition operator is refused and reported.
func TestUnknownOperator(t *testing.T) {
	t.Parallel()
	s, err := fakeiam.Start(fakeiam.Config{})
	must(t, err)
	defer s.Close()
	s.PutObject("b", "a", s3.Object{})
	for i, condition := range []string{
		`'BinaryEquals':{'aws:CurrentTime':'QmluYXJ5'}`, `'StringEquals':{'aws:SourceIp':'${aws:FederatedProvider}'}`,
	} {
		kp := s.AddUser("/", "u"+string(rune('0'+i)), statements(`{'Effect':'Allow','Action':'s3:*','Resource':'*','Condition':{`+condition+`}}`))
		_, code := sdk.Get(t, s.S3Client(kp), "b", "a")
		if code != "AccessDenied" || len(s.Problems()) != i+1 {
			t.Errorf("%s: got code %q, problems %q", condition, code, s.Problems())
		}
	}
}
