package doctor

import (
	"cmp"
	"slices"
	"time"
)

// FindingState is how a finding is, or all of them together.
type FindingState string

// States, from the best to the worst. NotTried does not count in the state of a report.
const (
	Good     FindingState = "good"
	NotTried FindingState = "not-tried" // it could not be known; the detail says why
	Warning  FindingState = "warning"   // it works, and should not stay so
	Bad      FindingState = "bad"       // it does not work, or is dangerous
)

// FindingName says what a finding is about. docs/operations.md explains each.
type FindingName string

// Names of findings, in the order of a report.
const (
	OwnCredentials    FindingName = "own-credentials"
	LongTermKey       FindingName = "long-term-key"
	RightsMissing     FindingName = "rights-missing"
	RightsTooBroad    FindingName = "rights-too-broad"
	Boundary          FindingName = "boundary"
	Endpoint          FindingName = "endpoint"
	Clock             FindingName = "clock"
	Bucket            FindingName = "bucket"
	Role              FindingName = "role"
	Account           FindingName = "account"
	ExternalID        FindingName = "external-id"
	SessionPolicy     FindingName = "session-policy"
	DefaultCredential FindingName = "default-credential"
	AssumeRoles       FindingName = "assume-roles"
	AllowDefault      FindingName = "allow-default-credential"
	AllowWideScope    FindingName = "allow-wide-scope"
	AllowPrivate      FindingName = "allow-private-endpoints"
	MasterKey         FindingName = "master-key"
	Store             FindingName = "store"
	Transforms        FindingName = "transforms"
)

// Names are all of them, in the order of a report. The caller owns the result.
func Names() []FindingName {
	return []FindingName{
		OwnCredentials, LongTermKey, RightsMissing, RightsTooBroad, Boundary, Endpoint, Clock, Bucket, Role, Account,
		ExternalID, SessionPolicy, DefaultCredential, AssumeRoles, AllowDefault, AllowWideScope, AllowPrivate, MasterKey,
		Store, Transforms,
	}
}

// Finding is one thing that was examined. It holds no secret, and no text of a server.
type Finding struct {
	Name    FindingName  `json:"name" description:"What was examined; docs/operations.md explains each name."`
	State   FindingState `json:"state" description:"How it is; not-tried: it could not be known."`
	Subject string       `json:"subject" description:"Which one: an ARN, a bucket, a URL, a credential, a flag."`
	Detail  string       `json:"detail" description:"What was found, or why it was not tried."`
	Remedy  string       `json:"remedy" description:"What to do; empty if there is nothing to do."`
}

// Report is the outcome of an examination.
type Report struct {
	State     FindingState `json:"state" description:"The worst of the findings that were tried: good, warning or bad."`
	CheckedAt time.Time    `json:"checked_at" description:"When the examination began."`
	Findings  []Finding    `json:"findings" description:"In a fixed order: by name, then by subject."`
}

// newReport sorts findings by their names, and equal names by their subjects.
func newReport(at time.Time, findings []Finding) *Report {
	order := map[FindingName]int{}
	for i, name := range Names() {
		order[name] = i
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(order[a.Name]-order[b.Name], cmp.Compare(a.Subject, b.Subject))
	})
	r := &Report{State: Good, CheckedAt: at.UTC().Truncate(time.Second), Findings: findings}
	for _, f := range findings {
		if f.State == Bad || f.State == Warning && r.State == Good {
			r.State = f.State
		}
	}
	return r
}
