package console

import (
	"net/http"
	"testing"
)

const role = "arn:aws:iam::123456789012:role/ixmage-pictures"

// startMinIO starts a server with STS, and an ixmage that may assume roles of it.
func startMinIO(t *testing.T) (where map[string]string, s *server) {
	t.Helper()
	where, stop, err := startOther("minio")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED:", err)
	}
	t.Cleanup(stop)
	s = start(t, "--sts-endpoint", where["url"], "--assume-roles", "arn:aws:iam::123456789012:role/ixmage-*")
	s.api(http.MethodPost, "/credentials", map[string]any{
		"name": "trusted", "access_key_id": where["root_id"], "secret_access_key": where["root_secret"],
	}, http.StatusCreated)
	return where, s
}

// TestRole registers an alias with a role by the keyboard and the mouse: refusals are shown, the
// right role shows a picture, and its session is explained.
func TestRole(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	where, s := startMinIO(t)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/register", "Access key id")
	p.choose("Read with", "a role")
	p.fill("Name", "shop")
	p.fill("Bucket", bucket)
	p.fill("Prefix", "pictures/")
	p.fill("Region", where["region"])
	p.fill("Endpoint", where["url"])
	p.fill("Canary", "noon.jpg")
	p.click("field", "Path style: host/bucket/key instead of bucket.host/key")
	p.fill("Role ARN", "pictures")
	p.click("button", "Register")
	p.wait("the role is marked", `document.querySelector('[name="credential.role_arn"]')?.getAttribute('aria-invalid') === 'true'`)
	p.focusGoes("Role ARN")
	p.fill("Role ARN", "arn:aws:iam::123456789012:role/admin")
	p.click("button", "Register")
	p.sees("is not among --assume-roles")

	p.fill("Role ARN", role)
	eval[any](p, `(document.querySelector('details summary').focus(), null)`)
	p.press("\r") // the folded fields open by the keyboard
	p.fill("Source", "nobody")
	p.fill("Duration", "1h")
	p.click("button", "Register")
	p.wait("the source is marked", `document.querySelector('[name="credential.source"]')?.getAttribute('aria-invalid') === 'true'`)
	p.axe(source, "the form of a role")
	p.fill("Source", "trusted")
	p.click("button", "Register")
	p.seesPicture("The picture noon.jpg", 640, 400)
	p.sees(role)

	p.visit("#/explain?path=/shop/noon.jpg", "The way of the request")
	p.sees("It signs the requests to S3.")
	p.axe(source, "explain")
	p.visit("#/credentials/shop", "A role: STS gives a session for each alias")
	p.axe(source, "the credential")
	p.click("button", "Change the role")
	p.fill("Role ARN", role+"2")
	p.axe(source, "the form that changes a role")
	p.click("button", "Change")
	p.sees(role + "2")
	c := s.api(http.MethodGet, "/credentials/shop", nil, http.StatusOK)
	if c["role_arn"] != role+"2" || c["source"] != "trusted" || c["version"] != float64(2) {
		t.Errorf("changed: %v", c)
	}
}

// TestRegisterCredentialKinds registers a role under a name, and sees why another kind is refused.
func TestRegisterCredentialKinds(t *testing.T) {
	t.Parallel()
	_, s := startMinIO(t)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/credentials", "trusted")
	p.click("button", "Register a credential")
	p.fill("Name", "own")
	p.choose("Kind", "the server's own credentials")
	p.click("button", "Register")
	p.sees("--allow-default-credential")
	p.fill("Name", "pictures")
	p.choose("Kind", "a role")
	p.fill("Role ARN", role)
	eval[any](p, `(document.querySelector('dialog details').open = true, null)`)
	p.fill("Source", "trusted")
	p.click("button", "Register")
	p.sees("each reads the location of its alias")
	if c := s.api(http.MethodGet, "/credentials/pictures", nil, http.StatusOK); c["kind"] != "role" || c["role_arn"] != role {
		t.Errorf("registered: %v", c)
	}
}
