package iam

import (
	"slices"
	"time"
)

// use is one use of an access key.
type use struct {
	at              time.Time
	service, region string
}

// recordUseLocked records a use of a key; that of root and of sessions is not kept.
func (s *Server) recordUseLocked(id string, at use) {
	h, ok := s.keys[id]
	if !ok {
		return
	}
	for i, v := range *h {
		used := *v.value
		used.LastUsed, used.LastService, used.LastRegion = at.at, at.service, at.region
		(*h)[i].value = &used
	}
	uses := (*h)[0].value.uses
	if s.cfg.LastUsedValueLag == 0 {
		*uses = nil
	}
	*uses = append(*uses, at)
}

// RecordUse makes a key one that was used at a time, such as by an operator.
func (s *Server) RecordUse(id string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordUseLocked(id, use{at, "s3", s.cfg.Region})
}

// reportedUse is the last use that GetAccessKeyLastUsed knows of; ok is false if it
// knows of none. Earlier uses are forgotten.
func (s *Server) reportedUse(k *Key, now time.Time) (last use, ok bool) {
	known := len(*k.uses)
	for known > 0 && now.Sub((*k.uses)[known-1].at) < s.cfg.LastUsedValueLag {
		known--
	}
	if known == 0 {
		return use{}, false
	}
	*k.uses = slices.Delete(*k.uses, 0, known-1)
	return (*k.uses)[0], true
}

// lastUsedKey is the key that GetAccessKeyLastUsed is asked for, if it knows it.
func (s *Server) lastUsedKey(r *request) (k *Key, ok bool) {
	k, ok = s.keys.visibleAt(r.params.Get("AccessKeyId"), r.now)
	return k, ok && r.now.Sub(k.Created) >= s.cfg.LastUsedLag
}

// onKeyOwner is the user whose key a request names. A key that is not known has no
// owner, so that a right to the users of a path does not cover it.
func onKeyOwner(s *Server, r *request) target {
	k, ok := s.lastUsedKey(r)
	if !ok && s.cfg.LastUsedError != "" { // the error must come after authorization
		k, ok = s.keys.latest(r.params.Get("AccessKeyId"))
	}
	if ok {
		return s.userTarget(r, k.User)
	}
	return target{arn: s.arn("user/")}
}

// getAccessKeyLastUsed answers with the name of the user too:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
func getAccessKeyLastUsed(s *Server, r *request) (any, error) {
	id := r.params.Get("AccessKeyId")
	k, ok := s.lastUsedKey(r)
	switch {
	case ok:
	case s.cfg.LastUsedError == "AccessDenied":
		return nil, refusal("AccessDenied", "%s", denial(r.caller.arn, "iam:GetAccessKeyLastUsed", s.arn("user/")))
	case s.cfg.LastUsedError != "":
		return nil, refusal(s.cfg.LastUsedError, "The Access Key with id %s cannot be found.", id)
	default:
		return nil, refusal("NoSuchEntity", "The Access Key with id %s cannot be found.", id)
	}
	type lastUsed struct {
		LastUsedDate string `xml:",omitempty"`
		ServiceName  string
		Region       string
	}
	out := lastUsed{ServiceName: "N/A", Region: "N/A"}
	if last, used := s.reportedUse(k, r.now); used {
		out = lastUsed{date(last.at), last.service, last.region}
	}
	return struct {
		UserName          string
		AccessKeyLastUsed lastUsed
	}{k.User, out}, nil
}
