package iam

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	trustKind      = "role trust policy"
	longestSession = 12 * time.Hour
	// chainedSession bounds a session that another session asked for:
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
	chainedSession = time.Hour
	// sessionPolicyQuota is the size of session policies in characters.
	sessionPolicyQuota = 2048
	managedSessionMax  = 10 // managed policies in a session
)

var (
	sessionNameForm = regexp.MustCompile(`^[\w+=,.@-]*$`)
	externalIDForm  = regexp.MustCompile(`^[\w+=,.@:/-]*$`)
	accountForm     = regexp.MustCompile(`^[0-9]{12}$`)
	sessionTextForm = regexp.MustCompile(`^[\t\n\r\x20-\x{ff}]+$`)
)

// policyText is a policy of one statement.
func policyText(statement map[string]any) string {
	//nolint:errchkjson // texts only: it cannot fail
	text, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{statement}})
	return string(text)
}

// assumption is what a call that makes a session of a role asks for.
type assumption struct {
	role     *Role
	name     string
	identity string // SourceIdentity
	policies []string
	packed   int // percent, 0 without a session policy
	duration time.Duration
}

func onAssumedRole(_ *Server, r *request) target { return target{arn: r.params.Get("RoleArn")} }

// assumeRole makes a session of a role:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func assumeRole(s *Server, r *request) (any, error) {
	if err := r.checkAssumption(); err != nil {
		return nil, err
	}
	if r.params.Has("Tags.member.1.Key") {
		s.problemLocked("session tags are not implemented here")
	}
	role := s.roleByARN(r.params.Get("RoleArn"), r.now)
	rights, identity := []string{"sts:AssumeRole"}, r.params.Get("SourceIdentity")
	if x := r.caller.session; x != nil && x.SourceIdentity != "" {
		if identity != "" && identity != x.SourceIdentity { // it stays the same along a chain
			return nil, refusal("AccessDenied", "%s", denial(r.caller.arn, "sts:SetSourceIdentity", r.params.Get("RoleArn")))
		}
		identity = x.SourceIdentity
	}
	if identity != "" {
		rights = append(rights, "sts:SetSourceIdentity")
	}
	for _, right := range rights {
		if err := s.mayAssume(r, role, right, identity); err != nil {
			return nil, err
		}
	}
	asked := assumption{role: role, name: r.params.Get("RoleSessionName"), identity: identity}
	x, err := s.roleSession(r, &asked)
	if err != nil {
		return nil, err
	}
	return assumed(x, asked.packed), nil
}

// checkAssumption validates the forms of the parameters.
func (r *request) checkAssumption() error {
	arn := r.params.Get("RoleArn")
	for _, field := range []struct {
		parameter string
		form      *regexp.Regexp
		pattern   string
		longest   int
		needed    bool
	}{
		{"RoleSessionName", sessionNameForm, `[\w+=,.@-]*`, 64, true},
		{"SourceIdentity", sessionNameForm, `[\w+=,.@-]*`, 64, false},
		{"ExternalId", externalIDForm, `[\w+=,.@:\/-]*`, 1224, false},
	} {
		value, member := r.params.Get(field.parameter), strings.ToLower(field.parameter[:1])+field.parameter[1:]
		switch n := utf8.RuneCountInString(value); {
		case !r.params.Has(field.parameter) && !field.needed:
		case n < 2:
			return constraint(value, member, "have length greater than or equal to 2")
		case n > field.longest:
			return constraint(value, member, "have length less than or equal to "+strconv.Itoa(field.longest))
		case !field.form.MatchString(value):
			return constraint(value, member, "satisfy regular expression pattern: "+field.pattern)
		}
	}
	if len(arn) < 20 {
		return constraint(arn, "roleArn", "have length greater than or equal to 20")
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":role/") {
		return refusal("ValidationError", "%s is invalid", arn)
	}
	return nil
}

// constraint is how AWS refuses a parameter that its model does not allow.
func constraint(value, member, must string) error {
	return refusal("ValidationError", "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: "+
		"Member must %s", value, member, must)
}

// mayAssume decides about a right to a role, which may be nil. In one account a trust
// policy that names the caller suffices; one that names the account lets the caller's own
// policies decide:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_update-role-trust-policy.html
func (s *Server) mayAssume(r *request, role *Role, right, identity string) error {
	if r.caller.root {
		return refusal("AccessDenied", "Roles may not be assumed by root accounts.")
	}
	q := query{action: right, resource: r.params.Get("RoleArn"), context: s.baseContext(r), unknown: s.problemLocked}
	for key, value := range map[string]string{
		"sts:ExternalId": r.params.Get("ExternalId"), "sts:RoleSessionName": r.params.Get("RoleSessionName"),
		"sts:SourceIdentity": identity, "sts:DurationSeconds": r.params.Get("DurationSeconds"),
	} {
		if value != "" {
			q.context.set(key, value)
		}
	}
	all := s.rulingsLocked(r, q, "")
	trust := ruling{kind: trustKind}
	if role != nil {
		for key, value := range role.Tags {
			q.context.set("aws:ResourceTag/"+key, value)
			q.context.set("iam:ResourceTag/"+key, value)
		}
		all = s.rulingsLocked(r, q, "")
		trust.is = s.trustDecision(role, q, r.caller, &all)
	}
	which, denied := all.denies()
	switch {
	case denied && (which.is == explicitDeny || role == nil || trust.is == allowed):
		return s.denied(r, q, which.reason(right, s.cfg.PolicyARNs))
	case role == nil:
		return refusal("AccessDenied", "%s", denial(r.caller.arn, right, q.resource))
	case trust.is != allowed:
		return s.denied(r, q, trust.reason(right, s.cfg.PolicyARNs))
	}
	return nil
}

// trustDecision is the decision of a role's trust policy about a caller. It puts a grant
// that names the caller, and any denial, into the rulings.
func (s *Server) trustDecision(role *Role, q query, who caller, all *rulings) decision {
	doc := s.parsedLocked(role.Trust, trustPolicy)
	named := doc.decide(q, func(st *statement) bool { return st.names(who) })
	is := doc.decide(q, func(st *statement) bool { return st.names(who, s.arn("root"), s.cfg.Account) })
	all.direct = ruling{kind: trustKind, is: is}
	if is == allowed {
		all.direct.is = named
	}
	all.toSession = who.role == nil || doc.allowsSession(q, who)
	return is
}

// roleSession makes the session that a call asks for, whose right to it was checked.
func (s *Server) roleSession(r *request, asked *assumption) (*Session, error) {
	var err error
	if asked.duration, err = r.sessionDuration(asked.role); err != nil {
		return nil, err
	}
	if err := s.sessionPolicies(r, asked); err != nil {
		return nil, err
	}
	x := s.newRoleSessionLocked(asked, r.now)
	x.Chained = r.caller.session != nil
	r.call.Session = x.AccessKeyID
	return x, nil
}

func (s *Server) newRoleSessionLocked(asked *assumption, now time.Time) *Session {
	life := asked.duration
	if s.cfg.SessionLife != nil {
		life = s.cfg.SessionLife(life)
	}
	x := s.newSessionLocked(nil, now, life)
	x.Role, x.roleID, x.Name = asked.role.Name, asked.role.ID, asked.name
	x.ARN = "arn:" + s.cfg.Partition + ":sts::" + s.cfg.Account + ":assumed-role/" + x.Role + "/" + x.Name
	x.SourceIdentity, x.Policies = asked.identity, asked.policies
	return x
}

// NewRoleSession makes a session of a role without a call, as EC2, ECS and EKS do for what
// they run.
func (s *Server) NewRoleSession(role, name string, life time.Duration) Session {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.roles.latest(role)
	if !ok {
		s.problemLocked("no role " + role)
		return Session{}
	}
	return *s.newRoleSessionLocked(&assumption{role: have, name: name, duration: life}, now)
}

type xmlKeys struct {
	AccessKeyID                               string `xml:"AccessKeyId"`
	SecretAccessKey, SessionToken, Expiration string
}

type xmlAssumed struct {
	Credentials     xmlKeys
	AssumedRoleUser struct {
		AssumedRoleID string `xml:"AssumedRoleId"`
		Arn           string
	}
	PackedPolicySize int    `xml:",omitempty"`
	SourceIdentity   string `xml:",omitempty"`
}

// assumed is the answer that hands out a session.
func assumed(x *Session, packed int) xmlAssumed {
	out := xmlAssumed{
		Credentials:      xmlKeys{x.AccessKeyID, x.secret.Reveal(), x.Token, date(x.Expires)},
		PackedPolicySize: packed, SourceIdentity: x.SourceIdentity,
	}
	out.AssumedRoleUser.AssumedRoleID, out.AssumedRoleUser.Arn = x.roleID+":"+x.Name, x.ARN
	return out
}

// sessionDuration is the time for which a session is asked for, within the limits.
func (r *request) sessionDuration(role *Role) (time.Duration, error) {
	asked := r.params.Get("DurationSeconds")
	if asked == "" {
		return time.Hour, nil
	}
	n, err := strconv.Atoi(asked)
	d := time.Duration(n) * time.Second
	switch {
	case err != nil || d < minSession:
		return 0, constraint(asked, "durationSeconds", "have value greater than or equal to 900")
	case d > longestSession:
		return 0, constraint(asked, "durationSeconds", "have value less than or equal to 43200")
	case r.caller.session != nil && d > chainedSession:
		return 0, refusal("ValidationError",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	case d > role.MaxSession:
		return 0, refusal("ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return d, nil
}

// sessionPolicies reads the session policies of a call and their packed size.
func (s *Server) sessionPolicies(r *request, asked *assumption) error {
	if inline := r.params.Get("Policy"); r.params.Has("Policy") {
		if !sessionTextForm.MatchString(inline) {
			return constraint(inline, "policy", `satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`)
		}
		if _, err := parsePolicy(inline, identityPolicy); err != nil {
			return malformed(err)
		}
		asked.policies = append(asked.policies, inline)
	}
	arns := r.policyARNs()
	if len(arns) > managedSessionMax {
		return constraint(strings.Join(arns, ", "), "policyArns", "have length less than or equal to 10")
	}
	for _, arn := range arns {
		p, ok := s.policies.visibleAt(arn, r.now)
		if !ok {
			return noSuchPolicy(arn)
		}
		asked.policies = append(asked.policies, p.Document())
	}
	if len(asked.policies) == 0 {
		return nil
	}
	pack := s.cfg.PackedSize
	if pack == nil {
		pack = packedSize
	}
	asked.packed = pack(asked.policies)
	if r.fault.DropPolicy {
		asked.policies = nil
	}
	if tooLong := slices.ContainsFunc(asked.policies, func(text string) bool {
		return utf8.RuneCountInString(text) > sessionPolicyQuota
	}); tooLong {
		asked.packed = max(asked.packed, 101)
	}
	if asked.packed > 100 {
		return refusal("PackedPolicyTooLarge", "Packed policy consumes %d%% of allotted space, please use smaller policy.",
			asked.packed)
	}
	return nil
}

// packedSize is the size of policies in percent of the quota, rounded up.
func packedSize(policies []string) int {
	n := 0
	for _, text := range policies {
		n += sizeOf(text)
	}
	return (n*100 + sessionPolicyQuota - 1) / sessionPolicyQuota
}

// policyARNs are the managed session policies of a call.
func (r *request) policyARNs() []string {
	var out []string
	for i := 1; ; i++ {
		arn := r.params.Get("PolicyArns.member." + strconv.Itoa(i) + ".arn")
		if arn == "" {
			return out
		}
		out = append(out, arn)
	}
}
