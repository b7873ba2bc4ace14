package cli

import (
	"maps"
	"net/http"
	"time"

	"ixmage/alias"
	"ixmage/alias/cli/manifest"
	"ixmage/alias/client"
)

// roleFlags describe a role whose sessions sign, instead of a key pair. A field without its flag
// is left to the server, which also checks the values.
type roleFlags struct {
	RoleARN        *string `name:"role-arn" help:"ARN of a role. Sessions of it sign, instead of a key pair; --assume-roles of the server must allow it." placeholder:"ARN"`
	ExternalID     *string `name:"external-id" help:"External id that the trust policy of the role asks for." placeholder:"ID"`
	Duration       *string `name:"duration" help:"How long a session of the role lives: 15m to 12h. Default: 1h." placeholder:"DURATION"`
	SessionPolicy  *string `name:"session-policy" help:"alias, the default: the sessions for an alias can read its location and nothing else; none: they can do all that the role can, which needs --allow-wide-scope of the server." placeholder:"POLICY"`
	Source         *string `name:"source" help:"Credential that assumes the role: the name of a static one, or default, the server's own credentials." placeholder:"NAME" completion:"credentials"`
	STSRegion      *string `name:"sts-region" help:"Region of the STS endpoint. Default: that of the server." placeholder:"REGION"`
	KMSKeyARN      *string `name:"kms-key-arn" help:"KMS key of encrypted objects, which the session policy then allows to use." placeholder:"ARN"`
	SourceIdentity *bool   `name:"source-identity" negatable:"" help:"Give the sessions of the role a source identity; its trust policy must allow sts:SetSourceIdentity."`
	Account        *string `name:"account" help:"Entry of the server's --accounts whose external id and region the role takes if it has none." placeholder:"NAME"`
}

// members are those of a request that the flags give.
func (f *roleFlags) members() map[string]any {
	body := membersOf(f)
	if region, ok := body["sts_region"]; ok {
		delete(body, "sts_region")
		body["region"] = region
	}
	return body
}

// credentialFlags describe a credential: a key pair, a role or the credentials of the server.
type credentialFlags struct {
	keyPairFlags
	roleFlags
}

// read returns the members of a request. It asks for a key pair if the flags name nothing else;
// own stands for the credentials of the server.
func (f *credentialFlags) read(s *session, own bool) (map[string]any, error) {
	kind := f.kind(own)
	role := f.members()
	switch {
	case kind != alias.KindRole && len(role) > 0:
		return nil, usagef("--external-id, --duration and the other flags of a role belong to --role-arn")
	case kind != alias.KindStatic && (f.KeyFile != "" || f.Profile != "" || f.Expect != ""):
		return nil, usagef("--key-file, --profile and --expect are about a key pair: this credential has none")
	case own && f.RoleARN != nil:
		return nil, usagef("--role-arn and the server's own credentials are two kinds of credential: name one")
	}
	if kind == alias.KindStatic {
		return f.keyPairFlags.read(s)
	}
	role["kind"] = kind
	return role, nil
}

// kind is that of the credential that the flags describe.
func (f *credentialFlags) kind(own bool) alias.Kind {
	switch {
	case own:
		return alias.KindDefault
	case f.RoleARN != nil:
		return alias.KindRole
	}
	return alias.KindStatic
}

// changeRole replaces a role by one that differs in the members of the flags, unless the role
// has changed since it was read.
func (c *credentialSetCmd) changeRole(s *session) (*client.Response, error) {
	resp, err := s.get("credentials", c.Name)
	if err != nil {
		return nil, err
	}
	was, err := resp.Value()
	if err != nil {
		return nil, err
	}
	if kind := was.Get("kind").Text(); kind != string(alias.KindRole) {
		return nil, usagef("%s is of the kind %s: the flags of a role do not fit it", c.Name, kind)
	}
	body := map[string]any{}
	for _, name := range manifest.RoleFields() {
		if v := was.Get(name); !v.IsNull() {
			body[name] = v.Any()
		}
	}
	maps.Copy(body, c.members())
	etag := c.etag()
	if etag == "" {
		etag = was.Get("revision").Text()
	}
	return s.do(client.Request{
		Method: http.MethodPut, Path: client.Path("credentials", c.Name), Query: c.query(), Body: body, IfMatch: etag,
	})
}

// keyOrRole is what a credential signs with.
func keyOrRole(c client.Value) string {
	text := c.Get("role_arn").Text()
	switch {
	case text == "":
		return c.Get("access_key_id").Text()
	case c.Get("session_policy").Text() == string(alias.SessionPolicyNone):
		text += " without session policy"
	}
	return text
}

// signingSession is the session in an explanation.
func signingSession(v client.Value) string {
	x := v.Get("session")
	if x.IsNull() {
		return ""
	}
	text := x.Get("role").Text()
	if text == "" {
		text = "the server's own credentials"
	}
	switch expires := x.Get("expires_at"); {
	case !expires.IsNull():
		text += ", " + untilText(expires, time.Now())
	case x.Get("error").Text() == "":
		text += ", none now: the next request to S3 makes one"
	}
	if e := x.Get("error").Text(); e != "" {
		text += "; the last attempt to get one failed: " + e
	}
	return text
}

// untilText says when a session expires.
func untilText(expires client.Value, now time.Time) string {
	at, err := time.Parse(time.RFC3339Nano, expires.Text())
	if err != nil {
		return "expires at " + expires.Text()
	}
	return "expires in " + at.Sub(now).Round(time.Second).String() + " (" + moment(expires) + ")"
}
