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
	AccessKeyID string // as claimed, not verified; empty if the call was not signed
	Caller      string // for Calls only: the ARN of the signer, empty if it was not verified
	Session     string // for Calls only: the access key of the session that the call made
	UserAgent   string
	At          time.Time

	// The outcome, for Calls only.
	Code   string // of the error; empty is success
	Status int    // 0 while it runs and if the connection was reset
	Acted  bool   // it took effect, whatever the client was told
}

// Fault makes a call fail. The functions below make the usual faults, which may
// be changed further. The zero Fault changes nothing.
type Fault struct {
	// Code refuses the call before it has any effect, with Message and Status
	// if they are set, else with the usual ones of the code.
	Code    string
	Message string
	Status  int
	// Reason ends the usual message of AccessDenied, such as "with an explicit deny
	// in a session policy".
	Reason string
	// LoseBefore resets the connection before the call takes effect,
	// LoseAfter after.
	LoseBefore, LoseAfter bool
	// Hang gives no answer and has no effect until the client leaves.
	Hang bool
	// DropBoundary makes CreateUser ignore the permissions boundary silently.
	DropBoundary bool
	// DropTags makes CreateUser, TagUser, CreatePolicy and TagPolicy ignore the tags
	// silently.
	DropTags bool
	// DropPolicy makes AssumeRole ignore the session policy silently.
	DropPolicy bool
	// NoMarker says that a list goes on, and not where.
	NoMarker bool
	// Empty answers 200 after the effect, without any element in the result.
	Empty bool
	// Before and After run in the server around the effect. They may call any
	// method but Close. They also run if the call is refused; After does not
	// run with LoseBefore.
	Before, After func()
}

// Fail refuses a call with a code such as Throttling, ServiceFailure,
// ConcurrentModification, LimitExceeded, AccessDenied or DeleteConflict. An
// unknown code is a 400.
func Fail(code string) *Fault { return &Fault{Code: code} }

// Deny refuses a call for a reason in the words of AWS, which follows "User: … is
// not authorized to perform: … on resource: …".
func Deny(reason string) *Fault { return &Fault{Code: "AccessDenied", Reason: reason} }

// NotImplemented answers as a server that does not implement the call.
func NotImplemented() *Fault { return Fail("InvalidAction") }

// LostBefore resets the connection before the call takes effect.
func LostBefore() *Fault { return &Fault{LoseBefore: true} }

// LostAfter resets the connection after the effect: the answer is lost.
func LostAfter() *Fault { return &Fault{LoseAfter: true} }

// Empty answers 200 with an empty result, as no server should.
func Empty() *Fault { return &Fault{Empty: true} }

// DropBoundary makes CreateUser ignore the boundary, as versitygw does.
func DropBoundary() *Fault { return &Fault{DropBoundary: true} }

// DropPolicy makes AssumeRole ignore the session policy, as a server does that knows no
// session policies.
func DropPolicy() *Fault { return &Fault{DropPolicy: true} }

// DropTags makes a call ignore its tags, as Ceph does in CreateUser.
func DropTags() *Fault { return &Fault{DropTags: true} }

// NoMarker makes a list say that it goes on, and not where.
func NoMarker() *Fault { return &Fault{NoMarker: true} }

// CephMissing are calls that Ceph's gateway does not implement; it answers 405
// MethodNotAllowed: https://docs.ceph.com/en/latest/radosgw/iam/
func CephMissing() []string {
	return []string{
		"TagUser", "UntagUser", "ListUserTags", "PutUserPermissionsBoundary", "DeleteUserPermissionsBoundary",
		"GetAccessKeyLastUsed", "GetLoginProfile", "ListMFADevices", "ListSSHPublicKeys", "ListSigningCertificates",
		"ListServiceSpecificCredentials", "SimulatePrincipalPolicy", "CreatePolicy", "TagPolicy",
	}
}

// SetFault makes a fault stand for every call of these actions to which OnCall does
// not give one; nil removes it. The fault must not have callbacks that change it.
func (s *Server) SetFault(fault *Fault, actions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, action := range actions {
		s.faults[action] = fault
	}
}

// OnCall makes fn choose the fault of each call before the call is examined; nil
// is no fault. fn is called by many goroutines at once and may call any method
// but Close. A nil fn removes it.
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

// begin numbers and records a call and returns its fault.
func (s *Server) begin(call *Call) *Fault {
	s.mu.Lock()
	call.N = len(s.calls) + 1
	s.calls = append(s.calls, *call)
	hook, fault := s.hook, s.faults[call.Action]
	s.mu.Unlock()
	if fault == nil {
		fault = &Fault{}
	}
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

// reply is an HTTP response.
type reply struct {
	status int
	code   string
	header http.Header
	body   []byte
}

// perform runs a call with its fault. act takes effect, under the lock; refuse
// only formats a refusal.
func (s *Server) perform(w http.ResponseWriter, r *request, act func() reply, refuse func(error) reply) {
	r.fault = s.begin(&r.call)
	run(r.fault.Before)
	if r.fault.Hang {
		<-r.http.Context().Done() // Close ends it too
	}
	if r.fault.LoseBefore || r.fault.Hang {
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
	// The clock of the account, by which its sessions end.
	w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body) //nolint:gosec // not a browser; the client may have left
}

func run(fn func()) {
	if fn != nil {
		fn()
	}
}

// hangUp resets a connection, so that the client gets an error at once.
func hangUp(w http.ResponseWriter) {
	nc, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return // it is gone already
	}
	netfault.Reset(nc)
}
