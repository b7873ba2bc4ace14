package iam

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"ixmage/internal/awstest/netfault"
)

// Call is a call that a Server received.
type Call struct {
	N           int    // from 1, in order of arrival, S3 included
	Service     string // iam, sts or s3
	Action      string // CreateUser, GetCallerIdentity, GetObject
	Params      url.Values
	AccessKeyID string // as claimed; empty when the call was not signed
	UserAgent   string
	At          time.Time

	// How it ended, for Calls only.
	Code   string // of the error; empty is success
	Status int    // 0 while it runs and where the connection was reset
	Acted  bool   // it had its effect, whatever the client was told
}

// Fault is how a call goes wrong. The functions below make the usual ones,
// which may be changed further. The zero Fault spoils nothing.
type Fault struct {
	// Code refuses the call before it has any effect, with Message and Status
	// where they are set, else with what AWS gives it.
	Code    string
	Message string
	Status  int
	// LoseBefore resets the connection and does nothing; LoseAfter does so
	// when the call has had its effect.
	LoseBefore, LoseAfter bool
	// DropBoundary makes CreateUser forget the permissions boundary and say
	// nothing.
	DropBoundary bool
	// Empty answers 200 after the effect, without any element in the result.
	Empty bool
	// Before and After run around the effect, on the server's side, and may
	// call any method but Close. They run also when the call is refused, but
	// for After where the connection is lost before.
	Before, After func()
}

// Fail refuses a call with a code such as Throttling, ServiceFailure,
// ConcurrentModification, LimitExceeded, AccessDenied or DeleteConflict. A code
// that IAM does not know is a 400.
func Fail(code string) *Fault { return &Fault{Code: code} }

// NotImplemented answers as a server that does not know the call.
func NotImplemented() *Fault { return Fail("InvalidAction") }

// LostBefore resets the connection before the call has any effect.
func LostBefore() *Fault { return &Fault{LoseBefore: true} }

// LostAfter resets the connection after the effect: the answer is lost.
func LostAfter() *Fault { return &Fault{LoseAfter: true} }

// Empty answers 200 with an empty result, as no server should.
func Empty() *Fault { return &Fault{Empty: true} }

// DropBoundary has CreateUser forget the boundary, as versitygw does.
func DropBoundary() *Fault { return &Fault{DropBoundary: true} }

// OnCall has fn decide about each call, before anything else is looked at; nil
// means that it goes right. fn is called by many goroutines at once and may
// call any method but Close. A nil fn removes it.
func (s *Server) OnCall(fn func(Call) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = fn
}

// Calls are all calls so far, in order of arrival.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// begin numbers and notes a call and asks what goes wrong with it.
func (s *Server) begin(call *Call) *Fault {
	s.mu.Lock()
	call.N = len(s.calls) + 1
	s.calls = append(s.calls, *call)
	hook := s.hook
	s.mu.Unlock()
	fault := &Fault{}
	if hook != nil {
		if decided := hook(*call); decided != nil {
			fault = decided
		}
	}
	return fault
}

func (s *Server) end(call *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call.N-1] = *call
}

// iamReply is what goes over the wire.
type reply struct {
	status int
	code   string
	header http.Header
	body   []byte
}

// perform runs a call with what goes wrong with it. act has the effect, under
// the lock; refuse only words a refusal.
func (s *Server) perform(w http.ResponseWriter, r *request, act func() reply, refuse func(error) reply) {
	r.fault = s.begin(&r.call)
	run(r.fault.Before)
	if r.fault.LoseBefore {
		s.end(&r.call)
		hangUp(w)
		return
	}
	var reply reply
	s.mu.Lock()
	if r.fault.Code != "" {
		reply = refuse(s.faultErrorLocked(r))
	} else {
		reply = act()
		r.call.Acted = reply.code == ""
		if r.fault.Empty && r.call.Acted {
			reply.body = fmt.Appendf(nil, "<%[1]sResponse><%[1]sResult></%[1]sResult></%[1]sResponse>", r.call.Action)
		}
	}
	s.mu.Unlock()
	run(r.fault.After)
	r.call.Code = reply.code
	if !r.fault.LoseAfter {
		r.call.Status = reply.status
	}
	s.end(&r.call)
	if r.fault.LoseAfter {
		hangUp(w)
		return
	}
	maps.Copy(w.Header(), reply.header)
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body) // a client that went away is no matter of ours
}

func run(fn func()) {
	if fn != nil {
		fn()
	}
}

// hangUp resets a connection, so that the client sees an error at once.
func hangUp(w http.ResponseWriter) {
	nc, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return // it is gone already
	}
	netfault.Reset(nc)
}
