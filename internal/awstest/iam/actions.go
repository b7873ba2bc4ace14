package iam

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"strconv"
	"time"
)

// iamActions are the calls of IAM but those about roles.
func iamActions() map[string]action {
	return map[string]action{
		"CreateUser":                     {onNewUser, createUser},
		"GetUser":                        {onUser, getUser},
		"ListUsers":                      {onAnyResource, listUsers},
		"DeleteUser":                     {onUser, deleteUser},
		"TagUser":                        {onUser, tagUser},
		"UntagUser":                      {onUser, untagUser},
		"ListUserTags":                   {onUser, listUserTags},
		"PutUserPermissionsBoundary":     {onUser, putUserPermissionsBoundary},
		"DeleteUserPermissionsBoundary":  {onUser, deleteUserPermissionsBoundary},
		"PutUserPolicy":                  {onUser, putUserPolicy},
		"GetUserPolicy":                  {onUser, getUserPolicy},
		"ListUserPolicies":               {onUser, listUserPolicies},
		"DeleteUserPolicy":               {onUser, deleteUserPolicy},
		"AttachUserPolicy":               {onUser, attachUserPolicy},
		"DetachUserPolicy":               {onUser, detachUserPolicy},
		"ListAttachedUserPolicies":       {onUser, listAttachedUserPolicies},
		"CreateLoginProfile":             {onUser, createLoginProfile},
		"GetLoginProfile":                {onUser, getLoginProfile},
		"AddUserToGroup":                 {onGroup, addUserToGroup},
		"ListGroupPolicies":              {onGroup, listGroupPolicies},
		"GetGroupPolicy":                 {onGroup, getGroupPolicy},
		"ListAttachedGroupPolicies":      {onGroup, listAttachedGroupPolicies},
		"ListGroupsForUser":              {onUser, listGroupsForUser},
		"ListMFADevices":                 {onUser, listMFADevices},
		"ListSSHPublicKeys":              {onUser, listSSHPublicKeys},
		"ListSigningCertificates":        {onUser, listSigningCertificates},
		"ListServiceSpecificCredentials": {onUser, listServiceSpecificCredentials},
		"CreateAccessKey":                {onUser, createAccessKey},
		"UpdateAccessKey":                {onUser, updateAccessKey},
		"DeleteAccessKey":                {onUser, deleteAccessKey},
		"ListAccessKeys":                 {onUser, listAccessKeys},
		"GetAccessKeyLastUsed":           {onKeyOwner, getAccessKeyLastUsed},
		"CreatePolicy":                   {onNewPolicy, createPolicy},
		"GetPolicy":                      {onPolicy, getPolicy},
		"GetPolicyVersion":               {onPolicy, getPolicyVersion},
		"ListPolicies":                   {onAnyResource, listPolicies},
		"ListPolicyVersions":             {onPolicy, listPolicyVersions},
		"CreatePolicyVersion":            {onPolicy, createPolicyVersion},
		"DeletePolicy":                   {onPolicy, deletePolicy},
		"TagPolicy":                      {onPolicy, tagPolicy},
		"ListPolicyTags":                 {onPolicy, listPolicyTags},
		"ListEntitiesForPolicy":          {onPolicy, listEntitiesForPolicy},
		"SimulatePrincipalPolicy":        {onSource, simulatePrincipalPolicy},
		"GetAccountSummary":              {onAnyResource, getAccountSummary},
		"ListAccountAliases":             {onAnyResource, listAccountAliases},
	}
}

// roleActions are the calls of IAM about roles.
func roleActions() map[string]action {
	return map[string]action{
		"CreateRole":                    {onNewRole, createRole},
		"GetRole":                       {onRole, getRole},
		"ListRoles":                     {onAnyResource, listRoles},
		"UpdateRole":                    {onRole, updateRole},
		"UpdateAssumeRolePolicy":        {onRole, updateAssumeRolePolicy},
		"DeleteRole":                    {onRole, deleteRole},
		"TagRole":                       {onRole, tagRole},
		"UntagRole":                     {onRole, untagRole},
		"ListRoleTags":                  {onRole, listRoleTags},
		"PutRolePermissionsBoundary":    {onRole, putRolePermissionsBoundary},
		"DeleteRolePermissionsBoundary": {onRole, deleteRolePermissionsBoundary},
		"PutRolePolicy":                 {onRole, putRolePolicy},
		"GetRolePolicy":                 {onRole, getRolePolicy},
		"ListRolePolicies":              {onRole, listRolePolicies},
		"DeleteRolePolicy":              {onRole, deleteRolePolicy},
		"AttachRolePolicy":              {onRole, attachRolePolicy},
		"DetachRolePolicy":              {onRole, detachRolePolicy},
		"ListAttachedRolePolicies":      {onRole, listAttachedRolePolicies},
	}
}

// stsActions are the calls of STS.
func stsActions() map[string]action {
	return map[string]action{
		"GetCallerIdentity":         {onAnyResource, getCallerIdentity},
		"AssumeRole":                {onAssumedRole, assumeRole},
		"AssumeRoleWithWebIdentity": {onAssumedRole, assumeRoleWithWebIdentity},
		"GetFederationToken":        {onFederatedUser, getFederationToken},
		"GetSessionToken":           {onAnyResource, getSessionToken},
	}
}

func getCallerIdentity(s *Server, r *request) (any, error) {
	return struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	}{r.caller.arn, cmp.Or(r.caller.id(), s.cfg.Account), s.cfg.Account}, nil
}

// id is the unique id of a caller, and empty for root.
func (c caller) id() string {
	switch {
	case c.user != nil:
		return c.user.ID
	case c.role != nil && c.session != nil:
		return c.role.ID + ":" + c.session.Name
	case c.role != nil:
		return c.role.ID
	}
	return ""
}

func onFederatedUser(s *Server, r *request) target {
	return target{arn: "arn:" + s.cfg.Partition + ":sts::" + s.cfg.Account + ":federated-user/" + r.params.Get("Name")}
}

// getFederationToken returns keys that no server accepts.
func getFederationToken(_ *Server, r *request) (any, error) {
	type keys struct {
		AccessKeyID                               string `xml:"AccessKeyId"`
		SecretAccessKey, SessionToken, Expiration string
	}
	return struct{ Credentials keys }{
		keys{uniqueID("ASIA", 16), newSecret(), newSecret(), date(r.now.Add(12 * time.Hour))},
	}, nil
}

func getAccountSummary(s *Server, r *request) (any, error) {
	local := 0
	for _, p := range s.policies.allVisibleAt(r.now) {
		if !p.ByAWS {
			local++
		}
	}
	return struct{ SummaryMap summary }{summary{
		{"Users", len(s.users.allVisibleAt(r.now))}, {"UsersQuota", s.cfg.UsersQuota},
		{"Policies", local}, {"PoliciesQuota", 1500},
		{"AccessKeysPerUserQuota", keysQuota}, {"AttachedPoliciesPerUserQuota", attachedQuota},
		{"UserPolicySizeQuota", inlineQuota}, {"PolicySizeQuota", managedQuota},
	}}, nil
}

// listAccountAliases answers with one alias at most, as AWS does.
func listAccountAliases(s *Server, _ *request) (any, error) {
	var out struct {
		AccountAliases []string `xml:"AccountAliases>member"`
		IsTruncated    bool
	}
	if s.cfg.AccountAlias != "" {
		out.AccountAliases = []string{s.cfg.AccountAlias}
	}
	return out, nil
}

// summary is a map in the XML of the query protocol.
type summary []struct {
	Key   string `xml:"key"`
	Value int    `xml:"value"`
}

// MarshalXML writes one entry for each.
func (s summary) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, entry := range s {
		if err := e.EncodeElement(entry, xml.StartElement{Name: xml.Name{Local: "entry"}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// namedList is a page of a list in an element with its own name.
type namedList[T any] struct {
	name  string
	items []T
	page  xmlPage
}

// MarshalXML writes the list under its name.
func (l namedList[T]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	members := struct {
		Member []T `xml:"member"`
	}{l.items}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if err := e.EncodeElement(members, xml.StartElement{Name: xml.Name{Local: l.name}}); err != nil {
		return err
	}
	if err := e.EncodeElement(l.page.IsTruncated, xml.StartElement{Name: xml.Name{Local: "IsTruncated"}}); err != nil {
		return err
	}
	if l.page.Marker != "" {
		if err := e.EncodeElement(l.page.Marker, xml.StartElement{Name: xml.Name{Local: "Marker"}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// listOfUser answers with a page of a list of what a user has.
func listOfUser[T any](s *Server, r *request, name string, of func(*User) []T) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	all := of(u)
	places := make([]string, len(all))
	for i := range all {
		places[i] = fmt.Sprintf("%06d", i)
	}
	places, more, err := page(s, r, places, func(place string) string { return place })
	if err != nil {
		return nil, err
	}
	first := 0
	if len(places) > 0 {
		first, _ = strconv.Atoi(places[0])
	}
	return namedList[T]{name, all[first : first+len(places)], more}, nil
}
