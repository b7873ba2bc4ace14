package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias/client"
	"ixmage/alias/policy"
)

// complete is the answer of a life of the program in which every step went well.
const complete = "every step went well"

// programChecks run the built program.
func programChecks() []check {
	return []check{
		{name: "program-user", run: programUser, want: []string{complete}, long: true,
			says: "ixmage, with docs/provisioner-policy.json and nothing else, makes a user with docs/boundary-policy.json, " +
				"serves with its key, proves it, replaces it in an emergency, and removes it without a trace"},
		{name: "program-role", run: programRole, want: []string{complete}, long: true,
			says: "ixmage serves an alias with sessions of a role with an external id, and proves their scope"},
	}
}

// provisioner is a user with the policy to copy, and the ARN of the boundary to copy. Both
// are empty if the server has no managed policies.
func (e *env) provisioner(ctx context.Context) (*principal, string, error) {
	bounds, err := e.filled(policy.ByKey, "")
	if err != nil {
		return nil, "", err
	}
	boundary, err := e.managed(ctx, bounds)
	if unimplemented(err) {
		return nil, "", nil
	} else if err != nil {
		return nil, "", err
	}
	doc, err := e.filled(policy.ByServer, boundary)
	if err != nil {
		return nil, "", err
	}
	rights, err := e.managed(ctx, doc)
	if err != nil {
		return nil, "", err
	}
	p, err := e.newPrincipal(ctx, userSpec{})
	if err != nil {
		return nil, "", err
	}
	err = e.again(ctx, func() error {
		_, err := e.iam(nil).AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &p.name, PolicyArn: &rights})
		return err
	}, "NoSuchEntity")
	if err != nil {
		return nil, "", err
	}
	path := e.programPath()
	_, err = e.until(ctx, func(ctx context.Context) bool {
		_, err := e.iam(p.keys).ListUsers(ctx, &iam.ListUsersInput{PathPrefix: &path})
		return err == nil
	})
	return p, boundary, err
}

func programUser(ctx context.Context, e *env) (answer, error) {
	as, boundary, err := e.provisioner(ctx)
	if err != nil {
		return answer{}, err
	}
	flags := []string{"--provision", "--provision-buckets", e.bucketName()}
	if boundary != "" {
		flags = append(flags, "--iam-boundary", boundary)
	}
	if e.o.custom() {
		flags = append(flags, "--iam-endpoint", e.o.iamURL)
	}
	p, err := e.start(ctx, as, flags...)
	if err != nil {
		return answer{}, err
	}
	scope := ""
	err = p.steps(
		step{"provision", func() error {
			body := p.location()
			body["alias"], body["probe"] = "user", map[string]string{"inside": inside, "outside": outside}
			return p.operate(ctx, http.MethodPost, client.Path("provision"), body)
		}},
		step{"read", func() error { return p.picture(ctx, "/user/a.png") }},
		step{"hit", func() error { return p.picture(ctx, "/user/a.png") }},
		step{"verify", func() (err error) {
			scope, err = p.verify(ctx, "user")
			return err
		}},
		step{"emergency", func() error {
			path := client.Path("credentials", "user", "rotate")
			return p.operate(ctx, http.MethodPost, path, map[string]bool{"emergency": true})
		}},
		step{"purge", func() error {
			return p.change(ctx, http.MethodPost, client.Path("purge"), map[string]any{"alias": "user", "hard": true})
		}},
		step{"read with the new key", func() error { return p.picture(ctx, "/user/a.png") }},
		step{"remove", func() error {
			if err := p.change(ctx, http.MethodDelete, client.Path("aliases", "user"), nil); err != nil {
				return err
			}
			return p.operate(ctx, http.MethodDelete, client.Path("credentials", "user"), nil)
		}},
		step{"nothing left", func() error { return p.nothingLeft(ctx) }},
	)
	return p.ended(err, scope)
}

// nothingLeft expects no user of the program in IAM, whose list may be old.
func (p *program) nothingLeft(ctx context.Context) error {
	_, err := p.until(ctx, func(ctx context.Context) bool {
		list, err := p.under(ctx, p.programPath())
		return err == nil && len(list) == 0
	})
	return err
}

// ended stops the program and answers for its life.
func (p *program) ended(err error, scope string) (answer, error) {
	done := strings.Join(append(p.done, scope), ", ")
	if stopped := p.stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return answer{detail: done + "; " + err.Error() + "; end of its log: " + lastLines(p.child.Output())},
			errors.New("the program did not go through")
	}
	return answer{complete, done}, nil
}

func lastLines(log string) string {
	const most = 2000
	return log[max(0, len(log)-most):]
}

func programRole(ctx context.Context, e *env) (answer, error) {
	source, own, err := e.guardedRole(ctx)
	if err != nil {
		return answer{}, err
	}
	if err := e.putRolePolicy(ctx, own, "test", document(allow(e.objects(""), "s3:GetObject"))); err != nil {
		return answer{}, err
	}
	p, err := e.start(ctx, source, "--assume-roles", e.arn("role", "*"))
	if err != nil {
		return answer{}, err
	}
	scope := ""
	err = p.steps(
		step{"register", func() error { return p.register(ctx, own) }},
		step{"read", func() error {
			// S3 learns of the policy of a role a little later.
			_, err := p.until(ctx, func(ctx context.Context) bool { return p.picture(ctx, "/role/a.png") == nil })
			return err
		}},
		step{"hit", func() error { return p.picture(ctx, "/role/a.png") }},
		step{"explain", func() error { return p.explains(ctx, own) }},
		step{"verify", func() (err error) {
			scope, err = p.verify(ctx, "role")
			return err
		}},
		step{"remove", func() error {
			return p.change(ctx, http.MethodDelete, client.Path("aliases", "role"), nil)
		}},
	)
	return p.ended(err, scope)
}

// register opens an alias that sessions of a role read.
func (p *program) register(ctx context.Context, own *role) error {
	body := p.location()
	body["name"] = "role"
	body["credential"] = map[string]any{"kind": "role", "role_arn": own.arn, "external_id": rightID}
	return p.change(ctx, http.MethodPost, client.Path("aliases"), body)
}

// explains expects the session of the role in the explanation of a URL.
func (p *program) explains(ctx context.Context, own *role) error {
	var out struct {
		Session struct {
			Role    string `json:"role"`
			Expires string `json:"expires_at"`
		} `json:"session"`
	}
	asked := client.Request{Path: client.Path("explain"), Query: url.Values{"path": {"/role/a.png"}}}
	if err := p.call(ctx, asked, &out); err != nil {
		return err
	}
	if out.Session.Role != own.arn || out.Session.Expires == "" {
		return fmt.Errorf("the session is %+v", out.Session)
	}
	return nil
}
