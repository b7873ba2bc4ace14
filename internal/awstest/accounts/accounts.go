// Package accounts puts several accounts behind one endpoint of IAM and STS, as AWS does: the key
// of a call decides in which account it acts.
package accounts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/sigv4"
)

// Account is an account whose roles users of the home account may assume.
type Account struct {
	*iam.Server

	ID string
	// visitor assumes roles for users of the home account, which the account cannot know.
	visitor alias.KeyPair
}

// Endpoint is that of several accounts. It is safe for concurrent use.
type Endpoint struct {
	URL string

	home   *iam.Server
	others []*Account
}

const assumeEverything = `{"Version":"2012-10-17",
	"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`

// New starts an endpoint that ends with the test. Users of the home account may assume roles of
// the others, if a policy of theirs allows it and the trust policy is one of Trust.
func New(t testing.TB, home *iam.Server, others ...*Account) *Endpoint {
	t.Helper()
	e := &Endpoint{home: home, others: others}
	for _, a := range others {
		a.visitor = a.AddUser("/", "visitor", assumeEverything)
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.URL = server.URL
	return e
}

// Trust is a trust policy that lets the users of the home account assume a role.
func (a *Account) Trust(externalID string) string {
	return iam.Trust(externalID, "arn:aws:iam::"+a.ID+":user/visitor")
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	params, _ := url.ParseQuery(string(body))
	key := sigv4.Parse(r.Header.Get("Authorization")).KeyID
	if a := e.accountOfRole(params.Get("RoleArn")); params.Get("Action") == "AssumeRole" && a != nil {
		if !e.mayAssume(key, params.Get("RoleArn")) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole"+
				"</Message></Error></ErrorResponse>")
			return
		}
		out := forwarded(r, a.URL, body)
		out.Host = "" // that of the account, as the signature has it
		sign(out, body, a.visitor)
		answer(w, out)
		return
	}
	answer(w, forwarded(r, e.ownerOf(key).URL, body))
}

// forwarded is a request as an account gets it, with the signature of its sender.
func forwarded(r *http.Request, to string, body []byte) *http.Request {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header = r.Header.Clone()
	out.Host = r.Host // it is part of the signature
	return out
}

func sign(r *http.Request, body []byte, by alias.KeyPair) {
	sum := sha256.Sum256(body)
	keys := aws.Credentials{AccessKeyID: by.AccessKeyID, SecretAccessKey: by.SecretAccessKey.Reveal()}
	at, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	err := v4.NewSigner().SignHTTP(r.Context(), keys, r, hex.EncodeToString(sum[:]), "sts", "us-east-1", at)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// answer answers with what an account answers.
func answer(w http.ResponseWriter, r *http.Request) {
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer got.Body.Close()
	maps.Copy(w.Header(), got.Header)
	w.WriteHeader(got.StatusCode)
	_, _ = io.Copy(w, got.Body)
}

// accountOfRole is the account of a role that is not the home account's, or nil.
func (e *Endpoint) accountOfRole(arn string) *Account {
	for _, a := range e.others {
		if strings.Contains(arn, ":iam::"+a.ID+":role/") {
			return a
		}
	}
	return nil
}

// mayAssume reports whether the key is that of a user of the home account with the right.
func (e *Endpoint) mayAssume(key, role string) bool {
	for _, u := range e.home.Users() {
		if has(e.home, u.Name, key) {
			return e.home.Allows(u.Name, "sts:AssumeRole", role)
		}
	}
	return false
}

// ownerOf is the account that knows a key; that of the home account for an unknown one.
func (e *Endpoint) ownerOf(key string) *iam.Server {
	for _, a := range e.others {
		for _, u := range a.Users() {
			if has(a.Server, u.Name, key) {
				return a.Server
			}
		}
		if slices.ContainsFunc(a.Sessions(""), func(x iam.Session) bool { return x.AccessKeyID == key }) {
			return a.Server
		}
	}
	return e.home
}

func has(s *iam.Server, user, key string) bool {
	return slices.ContainsFunc(s.Keys(user), func(k iam.Key) bool { return k.ID == key })
}

// Misused describes each call of IAM in the account that ixmage made with another key than that
// of a session of the role, with a session of another operation, or with one of more than 15
// minutes.
func (a *Account) Misused(installID, role string) []string {
	var found []string
	sessions := map[string]iam.Session{}
	for _, s := range a.Sessions(role) {
		if life := s.Expires.Sub(s.Issued); life != 15*time.Minute {
			found = append(found, fmt.Sprintf("the session %s lives %s", s.Name, life))
		}
		sessions[s.AccessKeyID] = s
	}
	for _, c := range a.Calls() {
		s, ok := sessions[c.AccessKeyID]
		_, operation, _ := strings.Cut(c.UserAgent, "ixmage-operation/")
		operation, _, _ = strings.Cut(operation, " ")
		name := "ixmage-" + installID + "-" + operation
		switch {
		case c.Service != "iam" || strings.Contains(c.UserAgent, "ixmage-probe/"):
		case !ok:
			found = append(found, c.Action+" by "+c.Caller+", which is no session of the role")
		case !strings.HasPrefix(name, s.Name) && !strings.HasPrefix(s.Name, name):
			found = append(found, c.Action+" of "+operation+" by the session "+s.Name)
		}
	}
	return found
}
