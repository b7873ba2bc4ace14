package metadata

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/iam"
)

const (
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	longestTTL  = 21600 // seconds
	rolesPath   = "/latest/meta-data/iam/security-credentials/"
	instance    = "i-0123456789abcdef0"
)

type answer struct {
	status int
	header map[string]string
	body   string
}

// right is the answer without a fault.
func (s *Server) right(r *http.Request, fault *Fault) answer {
	if s.kind == EC2 {
		return s.ofInstance(r, fault)
	}
	return s.ofContainer(r, fault)
}

func (s *Server) ofInstance(r *http.Request, fault *Fault) answer {
	path := r.URL.Path
	switch {
	case path == "/latest/api/token":
		return s.newToken(r)
	case r.Method != "GET":
		return answer{status: 405}
	case !s.tokenValid(r.Header.Get(tokenHeader)):
		return answer{status: 401}
	case path == "/latest/meta-data/placement/region":
		return answer{status: 200, body: s.cfg.Region}
	case path == "/latest/meta-data/instance-id":
		return answer{status: 200, body: instance}
	case path == "/latest/dynamic/instance-identity/document":
		return jsonAnswer(200, map[string]string{"region": s.cfg.Region, "instanceId": instance})
	case strings.HasPrefix(path, strings.TrimSuffix(rolesPath, "/")) && s.known():
		return s.ofRole(r.Context(), strings.TrimPrefix(path, rolesPath), fault)
	}
	return answer{status: 404}
}

// ofRole is the name of the role, or its credentials.
func (s *Server) ofRole(ctx context.Context, name string, fault *Fault) answer {
	switch name {
	case "", strings.TrimSuffix(rolesPath, "/"):
		return answer{status: 200, body: s.cfg.Role}
	case s.cfg.Role:
	default:
		return answer{status: 404}
	}
	x := s.current(fault)
	keys := keysOf(ctx, x)
	keys["Code"], keys["Type"] = "Success", "AWS-HMAC"
	keys["LastUpdated"] = x.Issued.UTC().Format(time.RFC3339)
	return jsonAnswer(200, keys)
}

// newToken makes a token for as long as the request asks for. A request through a proxy
// gets none.
func (s *Server) newToken(r *http.Request) answer {
	seconds, err := strconv.Atoi(r.Header.Get(ttlHeader))
	switch {
	case r.Method != "PUT":
		return answer{status: 405}
	case r.Header.Get("X-Forwarded-For") != "":
		return answer{status: 403}
	case err != nil || seconds < 1 || seconds > longestTTL:
		return answer{status: 400}
	}
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = s.account.Now().Add(time.Duration(seconds) * time.Second)
	return answer{status: 200, header: map[string]string{ttlHeader: strconv.Itoa(seconds)}, body: token}
}

func (s *Server) tokenValid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account.Now().Before(s.tokens[token])
}

// ofContainer are the credentials of a task or pod. The address of a task is a secret, so
// that the relative form needs no header; a full address does.
func (s *Server) ofContainer(r *http.Request, fault *Fault) answer {
	s.mu.Lock()
	given := r.Header.Get("Authorization")
	right := subtle.ConstantTimeCompare([]byte(given), []byte(s.secret)) == 1
	s.mu.Unlock()
	relative := s.kind == ECS && r.Host == "169.254.170.2"
	switch {
	case r.URL.Path != s.path, r.Method != "GET":
		return containerError(404, "InvalidIdInRequest", "CredentialsV2Request: Credentials not found")
	case !right && !relative:
		return containerError(401, "AccessDeniedException", "Unauthorized Exception! EKS does not have permissions to "+
			"assume the associated role.")
	case !s.known():
		return containerError(404, "ResourceNotFoundException", "No association found")
	}
	keys := keysOf(r.Context(), s.current(fault))
	role, _ := s.account.Role(s.cfg.Role)
	if s.kind == ECS {
		keys["RoleArn"] = role.ARN
	} else {
		_, rest, _ := strings.Cut(role.ARN, ":iam::")
		keys["AccountId"], _, _ = strings.Cut(rest, ":")
	}
	return jsonAnswer(200, keys)
}

func containerError(status int, code, message string) answer {
	return jsonAnswer(status, map[string]string{"code": code, "message": message})
}

// known reports whether the role is known by now.
func (s *Server) known() bool { return s.account.Now().Sub(s.began) >= s.cfg.Lag && s.cfg.Role != "" }

// current is the session to hand out, a new one if the last is about to end.
func (s *Server) current(fault *Fault) iam.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	margin := min(5*time.Minute, s.session.Expires.Sub(s.session.Issued)/2)
	made := s.session.AccessKeyID != ""
	if made && (fault.Stale || s.account.Now().Before(s.session.Expires.Add(-margin))) {
		return s.session
	}
	name := instance
	if s.kind != EC2 {
		name = strings.ToLower(rand.Text())
	}
	s.session = s.account.NewRoleSession(s.cfg.Role, name, s.cfg.Life)
	return s.session
}

func keysOf(ctx context.Context, x iam.Session) map[string]string {
	c, _ := x.Retrieve(ctx) // never fails
	return map[string]string{
		"AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey, "Token": c.SessionToken,
		"Expiration": x.Expires.UTC().Format(time.RFC3339),
	}
}

func jsonAnswer(status int, v any) answer {
	text, _ := json.Marshal(v) //nolint:errchkjson // texts only: it cannot fail
	return answer{status: status, header: map[string]string{"Content-Type": "application/json"}, body: string(text)}
}
