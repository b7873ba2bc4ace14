package iam

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

const (
	inlineQuota   = 2048 // characters of all inline policies of a user, without white space
	managedQuota  = 6144 // characters of a managed policy, likewise
	attachedQuota = 10
)

// sizeOf counts the characters of a document without white space.
func sizeOf(text string) int {
	n := 0
	for _, c := range text {
		if !unicode.IsSpace(c) {
			n++
		}
	}
	return n
}

// checkIdentityPolicy refuses a text that IAM does not store as a policy.
func checkIdentityPolicy(text string) error {
	if strings.ContainsFunc(text, func(c rune) bool { return c > '~' }) {
		return refusal("ValidationError", "The specified value for policyDocument is invalid. "+
			"It must contain only printable ASCII characters.")
	}
	if _, err := parsePolicy(text, identityPolicy); err != nil {
		return malformed(err)
	}
	return nil
}

func malformed(err error) error { return refusal("MalformedPolicyDocument", "%v", err) }

func putUserPolicy(s *Server, r *request) (any, error) {
	name, text := r.params.Get("PolicyName"), r.params.Get("PolicyDocument")
	if len(name) > 128 || !nameForm.MatchString(name[:min(len(name), 64)]) {
		return nil, invalid("policyName")
	}
	if _, err := s.visibleUser(r); err != nil {
		return nil, err
	}
	if err := checkIdentityPolicy(text); err != nil {
		return nil, err
	}
	return nil, s.changeUser(r, func(_, u *User) error {
		if u.Inline == nil {
			u.Inline = map[string]string{}
		}
		u.Inline[name] = text
		size := 0
		for _, text := range u.Inline {
			size += sizeOf(text)
		}
		if size > inlineQuota {
			return refusal("LimitExceeded", "Maximum policy size of %d bytes exceeded for user %s", inlineQuota, u.Name)
		}
		return nil
	})
}

func noInline(name string) error {
	return refusal("NoSuchEntity", "The user policy with name %s cannot be found.", name)
}

func getUserPolicy(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	name := r.params.Get("PolicyName")
	text, ok := u.Inline[name]
	if !ok {
		return nil, noInline(name)
	}
	return struct{ UserName, PolicyName, PolicyDocument string }{u.Name, name, s.encoded(text)}, nil
}

// encoded is a document in the encoding of IAM's answers, that of RFC 3986.
func (f *Server) encoded(text string) string {
	if f.cfg.PlainDocuments {
		return text
	}
	text = strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
	if f.cfg.PlainPlus {
		text = strings.ReplaceAll(text, "%2B", "+")
	}
	return text
}

func listUserPolicies(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	return pageOfNames(s, r, slices.Collect(maps.Keys(u.Inline)))
}

func pageOfNames(s *Server, r *request, all []string) (any, error) {
	names, more, err := page(s, r, all, func(name string) string { return name })
	return struct {
		PolicyNames []string `xml:"PolicyNames>member"`
		xmlPage
	}{names, more}, err
}

func deleteUserPolicy(s *Server, r *request) (any, error) {
	name := r.params.Get("PolicyName")
	return nil, s.changeUser(r, func(seen, u *User) error {
		_, wasSeen := seen.Inline[name]
		if _, still := u.Inline[name]; !wasSeen || !still {
			return noInline(name)
		}
		delete(u.Inline, name)
		return nil
	})
}

func attachUserPolicy(s *Server, r *request) (any, error) {
	arn := r.params.Get("PolicyArn")
	if _, err := s.visiblePolicy(r); err != nil {
		return nil, err
	}
	return nil, s.changeUser(r, func(_, u *User) error {
		if slices.Contains(u.Attached, arn) {
			return nil
		}
		if len(u.Attached) >= attachedQuota {
			return limitExceeded("PoliciesPerUser", attachedQuota)
		}
		u.Attached = append(u.Attached, arn)
		return nil
	})
}

func detachUserPolicy(s *Server, r *request) (any, error) {
	arn := r.params.Get("PolicyArn")
	return nil, s.changeUser(r, func(seen, u *User) error {
		if !slices.Contains(seen.Attached, arn) || !slices.Contains(u.Attached, arn) {
			return refusal("NoSuchEntity", "Policy %s was not found.", arn)
		}
		u.Attached = slices.DeleteFunc(u.Attached, func(have string) bool { return have == arn })
		return nil
	})
}

func listAttachedUserPolicies(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	return s.pageOfAttached(r, u.Attached)
}

func (f *Server) pageOfAttached(r *request, arns []string) (any, error) {
	type attached struct{ PolicyName, PolicyArn string }
	all := make([]attached, 0, len(arns))
	for _, arn := range arns {
		all = append(all, attached{arn[strings.LastIndex(arn, "/")+1:], arn})
	}
	some, more, err := page(f, r, all, func(a attached) string { return a.PolicyName })
	return struct {
		AttachedPolicies []attached `xml:"AttachedPolicies>member"`
		xmlPage
	}{some, more}, err
}

// What other tools may have attached to a user.

func getLoginProfile(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	if !u.LoginProfile {
		return nil, refusal("NoSuchEntity", "Login Profile for User %s cannot be found.", u.Name)
	}
	type profile struct{ UserName, CreateDate string }
	return struct{ LoginProfile profile }{profile{u.Name, date(u.Created)}}, nil
}

func createLoginProfile(s *Server, r *request) (any, error) {
	type profile struct{ UserName, CreateDate string }
	err := s.changeUser(r, func(_, u *User) error {
		if u.LoginProfile {
			return refusal("EntityAlreadyExists", "Login Profile for user %s already exists.", u.Name)
		}
		u.LoginProfile = true
		return nil
	})
	return struct{ LoginProfile profile }{profile{r.userName(), date(r.now)}}, err
}

// onGroup is the group that a request names.
func onGroup(s *Server, r *request) target {
	return target{arn: s.arn("group/" + r.params.Get("GroupName"))}
}

// addUserToGroup accepts every group.
func addUserToGroup(s *Server, r *request) (any, error) {
	return nil, s.changeUser(r, func(_, u *User) error {
		u.Groups = append(without(u.Groups, r.params.Get("GroupName")), r.params.Get("GroupName"))
		return nil
	})
}

func listGroupsForUser(s *Server, r *request) (any, error) {
	type group struct {
		Path, GroupName string
		GroupID         string `xml:"GroupId"`
		Arn, CreateDate string
	}
	return listOfUser(s, r, "Groups", func(u *User) []group {
		return mapped(u.Groups, func(name string) group {
			return group{"/", name, "AGPA" + "EXAMPLEGROUP00000", s.arn("group/" + name), date(u.Created)}
		})
	})
}

func listMFADevices(s *Server, r *request) (any, error) {
	type device struct{ UserName, SerialNumber, EnableDate string }
	return listOfUser(s, r, "MFADevices", func(u *User) []device {
		return mapped(u.MFADevices, func(serial string) device {
			return device{u.Name, serial, date(u.Created)}
		})
	})
}

func listSSHPublicKeys(s *Server, r *request) (any, error) {
	type key struct {
		UserName           string
		SSHPublicKeyID     string `xml:"SSHPublicKeyId"`
		Status, UploadDate string
	}
	return listOfUser(s, r, "SSHPublicKeys", func(u *User) []key {
		return mapped(u.SSHKeys, func(id string) key {
			return key{u.Name, id, "Active", date(u.Created)}
		})
	})
}

func listSigningCertificates(s *Server, r *request) (any, error) {
	type cert struct {
		UserName                            string
		CertificateID                       string `xml:"CertificateId"`
		CertificateBody, Status, UploadDate string
	}
	return listOfUser(s, r, "Certificates", func(u *User) []cert {
		return mapped(u.SigningCerts, func(id string) cert {
			return cert{u.Name, id, "-----BEGIN CERTIFICATE-----", "Active", date(u.Created)}
		})
	})
}

func listServiceSpecificCredentials(s *Server, r *request) (any, error) {
	type credential struct {
		UserName                                 string
		ServiceSpecificCredentialID              string `xml:"ServiceSpecificCredentialId"`
		ServiceName, ServiceUserName, CreateDate string
		Status                                   string
	}
	return listOfUser(s, r, "ServiceSpecificCredentials", func(u *User) []credential {
		return mapped(u.ServiceCredentials, func(id string) credential {
			return credential{u.Name, id, "codecommit.amazonaws.com", u.Name + "-at", date(u.Created), "Active"}
		})
	})
}

// mapped applies a function to each item of a list.
func mapped[S, T any](items []S, to func(S) T) []T {
	out := make([]T, 0, len(items))
	for _, item := range items {
		out = append(out, to(item))
	}
	return out
}
