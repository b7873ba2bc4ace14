package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ixmage/alias"
)

const testRole = "arn:aws:iam::123456789012:role/ixmage/pictures"

// stubSTS answers AssumeRole in memory, so that a test can run with a fake clock.
type stubSTS struct {
	skew   time.Duration // of its clock
	life   time.Duration // of sessions; 0 for what is asked
	answer func(n int) (status int, code, message string)
	hold   chan struct{} // calls wait until it is closed

	mu    sync.Mutex
	calls []url.Values
	times []time.Time
}

// Do implements aws.HTTPClient.
func (s *stubSTS) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	form.Set("signed", r.Header.Get("Authorization"))
	form.Set("host", r.URL.Host)
	s.mu.Lock()
	s.calls, s.times = append(s.calls, form), append(s.times, time.Now())
	n, hold, answer := len(s.calls), s.hold, s.answer
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if answer != nil {
		if status, code, message := answer(n); status != 0 {
			return s.reply(status, fmt.Sprintf(`<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`,
				code, message)), nil
		}
	}
	return s.reply(http.StatusOK, s.session(n, form)), nil
}

func (s *stubSTS) session(n int, form url.Values) string {
	life := s.life
	if life == 0 {
		seconds, _ := strconv.Atoi(form.Get("DurationSeconds"))
		life = time.Duration(seconds) * time.Second
	}
	return fmt.Sprintf(`<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIA%016d</AccessKeyId>`+
		`<SecretAccessKey>secret-%d</SecretAccessKey><SessionToken>token-%d</SessionToken><Expiration>%s</Expiration>`+
		`</Credentials></AssumeRoleResult></AssumeRoleResponse>`,
		n, n, n, time.Now().Add(s.skew+life).UTC().Format(time.RFC3339))
}

func (s *stubSTS) reply(status int, body string) *http.Response {
	h := http.Header{"Date": {time.Now().Add(s.skew).UTC().Format(http.TimeFormat)}, "Content-Type": {"text/xml"}}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), ProtoMajor: 1, ProtoMinor: 1,
	}
}

func (s *stubSTS) set(change func(*stubSTS)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *stubSTS) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *stubSTS) last() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[len(s.calls)-1]
}

// outcomes counts renewals.
type outcomes struct {
	mu sync.Mutex
	n  map[string]int
}

func (o *outcomes) SessionRenewal(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n == nil {
		o.n = map[string]int{}
	}
	o.n[outcome]++
}

func (o *outcomes) count(outcome string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n[outcome]
}

// env is a server that may assume testRole with its own keys.
type env struct {
	*Sessions
	t        testing.TB
	sts      *stubSTS
	outcomes *outcomes
	log      *bytes.Buffer
}

func newEnv(t testing.TB, change func(*Config)) *env {
	t.Helper()
	e := &env{t: t, sts: &stubSTS{}, outcomes: &outcomes{}, log: &bytes.Buffer{}}
	cfg := Config{
		AWS: aws.Config{
			Region: "eu-west-1", HTTPClient: e.sts, RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("AKIASERVER", "own-secret", ""),
		},
		InstallID: "i1", AssumeRoles: []string{"arn:aws:iam::123456789012:role/ixmage/*"}, Recorder: e.outcomes,
		Log: slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	e.Sessions = New(cfg)
	t.Cleanup(e.Close)
	return e
}

// route is alias number n, all with the same role.
func (*env) route(n int64) alias.Route {
	a := alias.New()
	a.ID, a.Name = n, alias.Name(fmt.Sprintf("shop%d", n))
	a.Location = alias.Location{Bucket: "acme-media", Prefix: fmt.Sprintf("p%d/", n), Region: "eu-west-1"}
	return alias.Route{Alias: a, Credential: &alias.Credential{
		ID: 1, Name: "pictures", Version: 1, Provider: alias.NewRole(testRole),
	}}
}

// keys are those that sign for a route now.
func (e *env) keys(r alias.Route) (aws.Credentials, error) {
	e.t.Helper()
	return e.Provider(r).Retrieve(context.Background())
}

func (e *env) mustKeys(r alias.Route) aws.Credentials {
	e.t.Helper()
	keys, err := e.keys(r)
	if err != nil {
		e.t.Fatal(err)
	}
	return keys
}

// elapse waits on the fake clock of a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
