package iam

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sigv4"
)

const (
	iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	iamVersion   = "2010-05-08"
	stsVersion   = "2011-06-15"
	// maxRequest bounds a request's body.
	maxRequest = 8 << 20
)

// request is one call under way.
type request struct {
	http   *http.Request
	body   []byte
	params url.Values
	call   Call
	fault  *Fault
	now    time.Time
	from   time.Time // when its changes become visible
	caller caller
}

// action is a call of IAM or STS: its target, for authorization, and its
// effect. Both run under the lock.
type action struct {
	on func(*Server, *request) target
	do func(*Server, *request) (any, error)
}

// target is the resource of a call, with its tags and boundary before the call.
type target struct {
	arn      string
	tags     map[string]string
	boundary string
}

// newRequest reads a request and the clock.
func (s *Server) newRequest(req *http.Request) (*request, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxRequest))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	lag := s.lag
	s.mu.Unlock()
	now := s.cfg.Now()
	r := &request{http: req, body: body, now: now, from: now.Add(lag())}
	r.call = Call{
		At: now, UserAgent: req.UserAgent(), AccessKeyID: sigv4.Parse(req.Header.Get("Authorization")).KeyID,
	}
	return r, nil
}

func (s *Server) serveQuery(w http.ResponseWriter, req *http.Request) {
	r, err := s.newRequest(req)
	if err != nil {
		hangUp(w)
		return
	}
	r.params, err = url.ParseQuery(string(r.body))
	if err != nil {
		r.params = url.Values{}
	}
	r.call.Service, r.call.Action = "iam", r.params.Get("Action")
	if r.params.Get("Version") == stsVersion {
		r.call.Service = "sts"
	}
	r.call.Params = withoutSecrets(r.params)
	s.perform(w, r, func() reply { return s.queryLocked(r) }, r.refuse)
}

// withoutSecrets are the parameters without passwords, secrets and tokens.
func withoutSecrets(params url.Values) url.Values {
	out := url.Values{}
	for name, values := range params {
		if !strings.Contains(name, "Password") && !strings.Contains(name, "Secret") && name != "WebIdentityToken" {
			out[name] = values
		}
	}
	return out
}

func (s *Server) queryLocked(r *request) reply {
	action, known := s.actionLocked(r)
	if known && r.call.Action == "AssumeRoleWithWebIdentity" { // the token stands for a signature
		result, err := action.do(s, r)
		if err != nil {
			return r.refuse(err)
		}
		return r.answer(result)
	}
	if err := s.authenticateLocked(r, r.call.Service, hashOf(r.body)); err != nil {
		return r.refuse(err)
	}
	if !known {
		return r.refuse(refusal("InvalidAction", "Could not find operation %s for version %s",
			r.call.Action, r.params.Get("Version")))
	}
	if err := s.authorizeLocked(r, action.on(s, r)); err != nil {
		return r.refuse(err)
	}
	result, err := action.do(s, r)
	if err != nil {
		return r.refuse(err)
	}
	return r.answer(result)
}

func (s *Server) actionLocked(r *request) (action, bool) {
	actions := stsActions
	if r.call.Service == "iam" {
		actions = iamActions
		if r.params.Get("Version") != iamVersion {
			return action{}, false
		}
	}
	action, ok := actions()[r.call.Action]
	if !ok && r.call.Service == "iam" {
		action, ok = roleActions()[r.call.Action]
	}
	return action, ok
}

// answer formats a result in the XML of the query protocol; a nil result is an
// empty answer.
func (r *request) answer(result any) reply {
	var b bytes.Buffer
	b.WriteString("<" + r.call.Action + `Response xmlns="` + r.namespace() + `">`)
	if result != nil {
		start := xml.StartElement{Name: xml.Name{Local: r.call.Action + "Result"}}
		if err := xml.NewEncoder(&b).EncodeElement(result, start); err != nil {
			return r.refuse(refusal("ServiceFailure", "%v", err))
		}
	}
	b.WriteString("<ResponseMetadata><RequestId>" + r.requestID() + "</RequestId></ResponseMetadata></" +
		r.call.Action + "Response>")
	return r.reply(200, "", b.Bytes())
}

// refuse formats an error in the XML of the query protocol.
func (r *request) refuse(err error) reply {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{code: "ServiceFailure", message: err.Error()}
	}
	status := e.status
	if status == 0 {
		status = statusOf(e.code)
	}
	kind := "Sender"
	if status >= 500 {
		kind = "Receiver"
	}
	var b bytes.Buffer
	b.WriteString(`<ErrorResponse xmlns="` + r.namespace() + `"><Error><Type>` + kind + "</Type><Code>" + e.code +
		"</Code><Message>")
	_ = xml.EscapeText(&b, []byte(e.message)) // a Buffer takes everything
	b.WriteString("</Message></Error><RequestId>" + r.requestID() + "</RequestId></ErrorResponse>")
	return r.reply(status, e.code, b.Bytes())
}

func (r *request) reply(status int, code string, body []byte) reply {
	h := http.Header{}
	h.Set("Content-Type", "text/xml")
	h.Set("x-amzn-RequestId", r.requestID())
	return reply{status: status, code: code, header: h, body: body}
}

func (r *request) namespace() string {
	if r.call.Service == "sts" {
		return stsNamespace
	}
	return iamNamespace
}

func (r *request) requestID() string { return "awstest-request-" + strconv.Itoa(r.call.N) }

// faultErrorLocked is the error that a fault asks for.
func (s *Server) faultErrorLocked(r *request) error {
	e := &apiError{code: r.fault.Code, message: r.fault.Message, status: r.fault.Status}
	switch {
	case e.message != "":
	case e.code == "Throttling":
		e.message = "Rate exceeded"
	case e.code == "RegionDisabledException":
		e.message = "STS is not activated in this region for account:" + s.cfg.Account + ". Your account administrator can " +
			"activate STS in this region using the IAM Console."
	case e.code == "InvalidAction":
		e.message = "Could not find operation " + r.call.Action + " for version " + r.params.Get("Version")
	case e.code == "AccessDenied" && s.authenticateLocked(r, r.call.Service, hashOf(r.body)) == nil:
		e.message = strings.TrimSpace(s.deniedLocked(r) + " " + r.fault.Reason)
	default:
		e.message = "scripted " + e.code
	}
	return e
}

// deniedLocked is the text with which AWS denies a call, whatever policies say.
func (s *Server) deniedLocked(r *request) string {
	right, resource := r.call.Service+":"+r.call.Action, "*"
	if r.call.Service == "s3" {
		at := s3.ParseTarget(r.http.RequestURI)
		right, resource = s3CallOf(r.http, at).right, strconv.Quote(s.s3ARN(at))
	} else if action, ok := s.actionLocked(r); ok {
		resource = action.on(s, r).arn
	}
	return denial(r.caller.arn, right, resource)
}

func denial(caller, action, resource string) string {
	return "User: " + caller + " is not authorized to perform: " + action + " on resource: " + resource
}

// members are the values of a list parameter: Name.member.1 and so on.
func (r *request) members(name string) []string {
	var out []string
	for i := 1; ; i++ {
		values, ok := r.params[name+".member."+strconv.Itoa(i)]
		if !ok {
			return out
		}
		out = append(out, values[0])
	}
}
