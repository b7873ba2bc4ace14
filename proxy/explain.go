package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// Explanation says how a URL resolves and why it gets its answer. It is for operators:
// it contains bucket, key and access key id, and never a secret.
type Explanation struct {
	Path string `json:"path" description:"The path of the request, as it was given."`
	// Status and Code are the answer that a GET would get now; 0 if S3 must be asked
	// first.
	Status     int                  `json:"status" description:"The status that a GET would get now; 0: S3 has to be asked first."`
	Code       string               `json:"code" description:"The code of the problem that a GET would get; empty: a picture, or not known."`
	Alias      string               `json:"alias" description:"The alias that the path names; may be unknown."`
	Bucket     string               `json:"bucket,omitempty" description:"The bucket of the alias."`
	Key        string               `json:"key,omitempty" description:"The key of the object in S3."`
	Region     string               `json:"region,omitempty" description:"The region of the alias."`
	Endpoint   string               `json:"endpoint,omitempty" description:"The endpoint of the alias; absent: AWS."`
	Credential *ExplainedCredential `json:"credential" description:"The credential that signs."`
	Session    *ExplainedSession    `json:"session,omitempty" description:"The session that signs; absent if the credential has a key of its own, or none."`
	Transform  *ExplainedTransform  `json:"transform" description:"What the query asks for; null if the path names no alias that serves."`
	Cache      *ExplainedCache      `json:"cache" description:"What the cache has of the stored picture."`
	Circuit    *ExplainedCircuit    `json:"circuit" description:"Whether requests go out to S3."`
	Canary     *ExplainedCanary     `json:"canary" description:"The canary of the alias."`
	// LastAnswer and LastFailure are S3's answers to any request for the alias;
	// KeyFailure is the last failure of this key, until a request for it succeeds.
	LastAnswer  *ExplainedAnswer `json:"last_answer" description:"The newest answer of S3 to any request for the alias."`
	LastFailure *ExplainedAnswer `json:"last_failure" description:"The newest failure of any request for the alias."`
	KeyFailure  *ExplainedAnswer `json:"key_failure" description:"The newest failure of this key; it goes when a GET of the key succeeds or the credential changes."`
	Probe       *ExplainedProbe  `json:"probe,omitempty" description:"The answer of S3 to the probe; absent without one."`
	Remedy      string           `json:"remedy" description:"What is wrong and what to do, in words; empty if all is well."`
}

// ExplainedCredential is the credential that signs.
type ExplainedCredential struct {
	Name        string `json:"name" description:"The name of the credential."`
	Kind        string `json:"kind" description:"static, provisioned, role, default or anonymous."`
	AccessKeyID string `json:"access_key_id" description:"The id of its key; empty if it has none."`
	State       string `json:"state" description:"The state of the credential."`
}

// ExplainedSession describes the temporary keys of a credential, and never the keys.
type ExplainedSession struct {
	Role    string     `json:"role" description:"The ARN of the role; empty for the credentials of the server."`
	Expires *time.Time `json:"expires_at" description:"When the session expires; null if there is none now: the next request to S3 makes one."`
	Error   string     `json:"error,omitempty" description:"Why the last attempt to get a session failed, and what to do; absent if it succeeded."`
}

// failed reports whether there is no session, because none was to be had.
func (s *ExplainedSession) failed() bool { return s != nil && s.Expires == nil && s.Error != "" }

// Sessions describes the sessions of credentials.
type Sessions interface {
	// Session describes the session of a route; ok is false if its credential has none.
	Session(r alias.Route) (s ExplainedSession, ok bool)
}

// ExplainedCache is the state of an object in the cache.
type ExplainedCache struct {
	// Tier is memory, disk or missing; empty if the cache has nothing.
	Tier    string            `json:"tier" description:"memory, disk or missing (a remembered 404); empty if the cache has nothing."`
	Memory  *ExplainedEntry   `json:"memory" description:"The entry in memory."`
	Disk    *ExplainedEntry   `json:"disk" description:"The entry on disk."`
	Missing *ExplainedAbsence `json:"missing" description:"The remembered 404."`
	// Fetching says that a fetch is running, Bypass that the object could not be stored
	// recently.
	Fetching bool `json:"fetching" description:"A fetch is running."`
	Bypass   bool `json:"bypass" description:"The object could not be stored recently."`
}

// ExplainedEntry is a stored object. Times are in seconds; ttl is negative once it
// is stale.
type ExplainedEntry struct {
	State        string `json:"state" description:"fresh or stale."`
	Age          int64  `json:"age" description:"Seconds since S3 sent or confirmed it."`
	TTL          int64  `json:"ttl" description:"Seconds until it is stale; negative afterwards."`
	Size         int64  `json:"size" description:"Bytes of the picture."`
	ContentType  string `json:"content_type" description:"Its Content-Type."`
	ETag         string `json:"etag" description:"Its ETag."`
	CacheControl string `json:"cache_control" description:"Its Cache-Control."`
	// StaleWhile is how long it may still be served while it is revalidated,
	// StaleError how long while the revalidation fails.
	StaleWhile int64 `json:"stale_while_revalidate_left" description:"Seconds for which it may still be served while it is revalidated."`
	StaleError int64 `json:"stale_if_error_left" description:"Seconds for which it may still be served while the revalidation fails."`
	Failing    bool  `json:"failing" description:"Its last revalidation failed."`
}

// ExplainedAbsence is a negative entry of the cache.
type ExplainedAbsence struct {
	TTL    int64  `json:"ttl" description:"Seconds for which it is remembered."`
	Reason string `json:"reason" description:"Why it is remembered as missing."`
}

// ExplainedCanary is the last reading of the alias's canary.
type ExplainedCanary struct {
	Key     string    `json:"key" description:"The key of the canary in S3; empty: none."`
	State   string    `json:"state" description:"none, unknown, readable or failing."`
	Checked time.Time `json:"checked_at,omitzero" description:"When it was read last; absent before."`
}

// Explain resolves the path and the query of a URL as get does and returns an *Explanation of
// its answer to a client with a header Accept. With probe it asks S3 for the object, and reads no
// more than decides its type. It does not change the cache.
func (p *Proxy) Explain(ctx context.Context, path, accept string, probe bool) any {
	e := &Explanation{Path: path}
	t, err := resolve([]byte(path))
	e.Alias = t.alias
	if err != nil {
		if e.refuse(problemOf(err), remedyKey); e.Status == http.StatusNotFound {
			e.Remedy = remedyPath
		}
		return e
	}
	route, ok := p.registry.Lookup(t.alias)
	if !ok {
		e.refuse(probNotFound, p.remedyUnknownAlias(t.alias))
		return e
	}
	a := route.Alias
	e.locate(route, t.key)
	switch {
	case len(e.Key) > alias.MaxKey:
		e.refuse(probBadKey, remedyLong)
	case !a.Enabled:
		e.refuse(probNotFound, remedyDisabled)
	case !a.Serves():
		e.refuse(probNotFound, remedyState(a.State))
	default:
		p.explainURL(ctx, e, route, asked{[]byte(path), []byte(accept), t.key, time.Now(), probe})
	}
	return e
}

// explainURL explains what an alias that serves answers.
func (p *Proxy) explainURL(ctx context.Context, e *Explanation, r alias.Route, u asked) {
	v, err := p.explainQuery(e, r.Alias, u)
	p.gather(ctx, e, r, u.probe)
	switch {
	case err != nil:
		e.answerError(err)
	case v != nil:
		p.explainVariant(e, r.Alias, v, u.now)
	}
}

func (e *Explanation) refuse(prob problem, remedy string) {
	e.Status, e.Code, e.Remedy = prob.status, prob.code, remedy
}

func (e *Explanation) locate(r alias.Route, key string) {
	a, c := r.Alias, r.Credential
	e.Bucket, e.Key, e.Region, e.Endpoint = a.Bucket, a.Prefix+key, a.Region, a.Endpoint
	e.Credential = &ExplainedCredential{
		Name: string(c.Name), Kind: string(c.Provider.Kind()), AccessKeyID: c.AccessKeyID(), State: string(c.State),
	}
}

// gather fills e from the cache, the circuit, the canary and the last answers of S3.
func (p *Proxy) gather(ctx context.Context, e *Explanation, r alias.Route, probe bool) {
	now := time.Now()
	v := p.cache.Inspect(keyOf(r.Alias, strings.TrimPrefix(e.Key, r.Alias.Prefix)), now)
	if obj, ok := v.Meta.(*object); ok && v.Outdated {
		l := lifetimesOf(obj.said, r.Alias)
		v.StaleIfError = v.StaleIfErrorBy(cache.Lifetimes{Fresh: l.fresh, StaleIfError: l.staleError})
	}
	e.Cache = explainView(v, now)
	e.Canary = p.explainCanary(r.Alias)
	circuit := p.origin.Circuit(r)
	e.Circuit = explainCircuit(circuit, now)
	e.LastFailure = explainAnswer(p.origin.LastFailure(r.Alias.ID)) // before LastAnswer, which a newer failure changes too
	e.LastAnswer = explainAnswer(p.origin.LastAnswer(r.Alias.ID))
	e.KeyFailure = explainAnswer(p.origin.ObjectFailure(r, e.Key))
	e.served(v, now)
	known := e.knownError(v, now.Before(circuit.Probe))
	err := known
	if probe {
		e.Probe = p.probe(ctx, r, e.Key)
		err = p.classify(ctx, r, e.Probe.refusal())
	}
	if p.sessions != nil { // after the probe, which may have made one
		if s, ok := p.sessions.Session(r); ok {
			e.Session = &s
		}
	}
	// Clients get the remembered answer, whatever the probe finds.
	reported := cmp.Or(known, err)
	_, outage := errors.AsType[*cache.Unavailable](reported)
	if outage && stored(v) && now.Before(v.StaleIfError) && e.Status == 0 {
		e.Status, e.Remedy = http.StatusOK, remedyStale
	}
	if reported != nil {
		e.explainFailure(reported, err)
	}
	if e.Remedy == "" {
		e.defaultRemedy()
	}
}

// served sets the answer of an object that the cache serves without S3, and reports whether it does.
func (e *Explanation) served(v cache.View, now time.Time) bool {
	switch {
	case !stored(v):
		return false
	case v.Fresh || now.Before(v.StaleWhileRevalidate):
		e.Status, e.Code, e.Remedy = http.StatusOK, "", remedyCached
	case v.Failing && now.Before(v.StaleIfError):
		e.Status, e.Code, e.Remedy = http.StatusOK, "", remedyStale+e.originRemedy()
	default:
		return false
	}
	return true
}

// originRemedy returns the remedy for a failing S3, derived from the alias's last failure.
// It is empty if that failure concerns one object only.
func (e *Explanation) originRemedy() string {
	last := e.LastFailure
	switch {
	case !e.lastFailed(), last.Outcome == string(origin.OutcomeNotFound):
		return ""
	case last.Outcome != string(origin.OutcomeDenied):
		return " " + last.remedy()
	case e.Canary.State == canaryFailing:
		return " " + remedyFor(probDenied, nil)
	}
	return ""
}

// lastFailed reports whether the last answer for the alias was a failure.
func (e *Explanation) lastFailed() bool {
	return e.LastFailure != nil && e.LastAnswer.At.Equal(e.LastFailure.At)
}

// knownError is the error that the next request would get without a request to S3, nil if
// there is none.
func (e *Explanation) knownError(v cache.View, pausing bool) error {
	switch {
	case e.Status == http.StatusOK:
		return nil
	case v.Tier == cache.TierNegative:
		return v.Err
	case pausing:
		return &cache.Unavailable{Err: &origin.Error{Outcome: origin.OutcomeCircuitOpen}}
	}
	return nil
}

// explainFailure sets the answer that clients get, and a remedy for cause, which is nil if
// S3 works again. An object that the cache serves keeps its status.
func (e *Explanation) explainFailure(reported, cause error) {
	if prob := problemOf(reported); e.Status == 0 {
		e.Status, e.Code = prob.status, prob.code
	}
	if _, negative := errors.AsType[*cache.NegativeHit](cause); negative && e.KeyFailure != nil {
		cause = e.KeyFailure.err // which has S3's message
	}
	remedy := remedyAgain
	if cause != nil {
		prob := problemOf(cause)
		remedy = remedyFor(prob, cause)
		if oe, ok := errors.AsType[*origin.Error](cause); ok && oe.Outcome == origin.OutcomeDenied && e.unsigned() {
			remedy = remedyUnsigned + remedy
		}
		if prob == probCircuit {
			remedy += e.originRemedy()
		}
	}
	switch {
	case strings.Contains(e.Remedy, remedy): // the last failure is the same
		remedy = e.Remedy
	case e.Remedy != "":
		remedy = e.Remedy + " " + remedy
	}
	e.Remedy = remedy
}

// unsigned reports whether the alias's requests are not signed.
func (e *Explanation) unsigned() bool { return e.Credential.Kind == string(alias.KindAnonymous) }

// defaultRemedy sets the remedy if no failure is known.
func (e *Explanation) defaultRemedy() {
	switch {
	case e.Probe != nil:
		e.Status, e.Remedy = http.StatusOK, e.Probe.seen()
		if e.KeyFailure != nil && e.Probe.Checksum == checksumUnchecked && !e.Probe.broken {
			e.Remedy += " " + e.KeyFailure.lastTime()
		}
	case e.Session.failed():
		e.Remedy = remedySession
	case e.KeyFailure != nil:
		e.Remedy = e.KeyFailure.lastTime()
	case e.lastFailed() && e.LastFailure.Outcome != string(origin.OutcomeNotFound):
		e.Remedy = remedyLast + e.LastFailure.remedy()
	case e.Cache.Memory != nil, e.Cache.Disk != nil:
		e.Remedy = remedyStored
	default:
		e.Remedy = remedyUnknown
	}
}

func explainView(v cache.View, now time.Time) *ExplainedCache {
	c := &ExplainedCache{Tier: v.Tier, Fetching: v.Fetching, Bypass: v.Bypass}
	switch v.Tier {
	case cache.TierNegative:
		c.Missing = &ExplainedAbsence{TTL: left(v.Expires, now), Reason: v.Err.Error()}
	case cache.Tier, cache.TierDisk:
		obj := v.Meta.(*object)
		entry := &ExplainedEntry{
			State: "stale", Age: int64(now.Sub(v.Stored) / time.Second), TTL: int64(v.Expires.Sub(now) / time.Second),
			Size: v.Size, ContentType: string(obj.contentType), ETag: obj.etag, CacheControl: obj.said.cacheControl,
			StaleWhile: left(v.StaleWhileRevalidate, now), StaleError: left(v.StaleIfError, now), Failing: v.Failing,
		}
		if v.Fresh {
			entry.State = "fresh"
		}
		if c.Memory = entry; v.Tier == cache.TierDisk {
			c.Memory, c.Disk = nil, entry
		}
	}
	return c
}

// stored reports whether the cache has the object, in memory or on disk.
func stored(v cache.View) bool { return v.Tier == cache.Tier || v.Tier == cache.TierDisk }

// left returns whole seconds, never negative.
func left(until, now time.Time) int64 { return max(0, int64(until.Sub(now)/time.Second)) }

// ExplainedCircuit is the state of the circuit, which decides whether calls go out to S3.
type ExplainedCircuit struct {
	State    string `json:"state" description:"The state of the circuit breaker."`
	Failures int    `json:"failures" description:"Failures in a row."`
	Retry    int64  `json:"retry_in" description:"Seconds until the next request goes out, if it is open."`
}

func explainCircuit(c origin.CircuitInfo, now time.Time) *ExplainedCircuit {
	e := &ExplainedCircuit{State: c.State.String(), Failures: c.Failures}
	if c.State == origin.CircuitOpen {
		e.Retry = left(c.Probe, now)
	}
	return e
}

// ExplainedAnswer is one answer of S3.
type ExplainedAnswer struct {
	At          time.Time `json:"at" description:"When S3 answered, or failed to."`
	Key         string    `json:"key" description:"The key of the request."`
	Operation   string    `json:"operation" description:"The operation of S3."`
	Outcome     string    `json:"outcome" description:"As in ixmage_origin_requests_total."`
	Status      int       `json:"status" description:"The status of the answer; 0: there was none."`
	S3Code      string    `json:"s3_code" description:"The error code of S3; may be empty."`
	S3Message   string    `json:"s3_message" description:"The words of S3, at most 300 bytes, without access key ids, account numbers and signatures."`
	S3RequestID string    `json:"s3_request_id" description:"The request id of S3."`
	Cause       string    `json:"cause" description:"Why there was no answer: dns, refused, unreachable, timeout, reset, tls, protocol or address-guard; empty with an answer."`
	Error       string    `json:"error" description:"The text in the log; empty if the request succeeded."`

	err error
}

func explainAnswer(a origin.Answer, known bool) *ExplainedAnswer {
	if !known {
		return nil
	}
	e := &ExplainedAnswer{
		At: a.At.UTC(), Key: a.Key, Operation: a.Operation, Outcome: a.Outcome,
		Status: a.Status, S3Code: a.Code, S3RequestID: a.RequestID,
	}
	e.fail(a.Err)
	return e
}

// fail sets the fields that come from an error, which may be nil.
func (a *ExplainedAnswer) fail(err error) {
	if a.err = err; err == nil {
		return
	}
	a.Error = err.Error()
	if oe, ok := errors.AsType[*origin.Error](err); ok {
		a.S3Message, a.Cause = oe.Message, string(oe.Cause)
	}
}

// remedy returns the remedy for a failure of an earlier request.
func (a *ExplainedAnswer) remedy() string {
	return remedyFor(problemOf(a.err), a.err)
}

// lastTime says that a request for the same key failed, and what to do.
func (a *ExplainedAnswer) lastTime() string {
	return "The last request to S3 for this key failed at " + a.At.Format(time.RFC3339) + ". " + a.remedy()
}

// States of an ExplainedCanary.
const (
	canaryNone     = "none"
	canaryUnknown  = "unknown"
	canaryReadable = "readable"
	canaryFailing  = "failing"
)

func (p *Proxy) explainCanary(a *alias.Alias) *ExplainedCanary {
	c := &ExplainedCanary{Key: a.Canary, State: canaryNone}
	if a.Canary == "" {
		return c
	}
	c.Key, c.State = a.Prefix+a.Canary, canaryUnknown
	readable, at, known := p.canary.State(a.ID)
	switch {
	case !known:
	case readable:
		c.State, c.Checked = canaryReadable, at.UTC()
	default:
		c.State, c.Checked = canaryFailing, at.UTC()
	}
	return c
}
