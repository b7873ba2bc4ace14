package admin

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
)

// answers has the status and code of every error. TestEveryErrorHasAnAnswer fails if an
// error is missing here, so that a new error cannot be without a chosen status.
var answers = map[string]struct {
	err    error
	status int
	code   string
}{
	"alias.ErrNotFound":       {alias.ErrNotFound, 404, "not-found"},
	"alias.ErrExists":         {alias.ErrExists, 409, "exists"},
	"alias.ErrStale":          {alias.ErrStale, 412, "precondition-failed"},
	"alias.ErrTooManyKeys":    {alias.ErrTooManyKeys, 409, "too-many-signing-keys"},
	"errNoSigningKey":         {errNoSigningKey, 409, "no-signing-key"},
	"alias.ErrInUse":          {alias.ErrInUse, 409, "in-use"},
	"alias.ErrNotStatic":      {alias.ErrNotStatic, 409, "not-static"},
	"alias.ErrUnavailable":    {alias.ErrUnavailable, 503, "unavailable"},
	"alias.ErrDamaged":        {alias.ErrDamaged, 500, "damaged"},
	"alias.DamagedError":      {&alias.DamagedError{Kind: "alias", Name: "a", Cause: errors.New("x")}, 500, "damaged"},
	"alias.DamagedRowsError":  {&alias.DamagedRowsError{}, 500, "damaged"},
	"alias.ErrBusy":           {alias.ErrBusy, 409, "operation-running"},
	"alias.ErrProvisioned":    {alias.ErrProvisioned, 409, "provisioned"},
	"alias.ErrNotProvisioned": {alias.ErrNotProvisioned, 409, "not-provisioned"},
	"alias.ErrNoBoundary":     {alias.ErrNoBoundary, 409, "no-boundary"},
	"alias.ErrOtherUser":      {alias.ErrOtherUser, 409, "user-changed"},
	"alias.ErrForbidden":      {alias.ErrForbidden, 403, "not-allowed"},
	"alias.ErrIAM":            {alias.ErrIAM, 502, "iam"},
	"alias.ErrNoKeyPair":      {alias.ErrNoKeyPair, 409, "no-key-pair"},
	"alias.ErrLeased":         {alias.ErrLeased, 409, "leased"},
	"alias.ErrLeaseLost":      {alias.ErrLeaseLost, 503, "lease-lost"},
	// The registry reloads, and no caller sees it.
	"alias.ErrHistory": {alias.ErrHistory, 500, "internal"},
	// Of the start: if the API meets it, something is wrong inside.
	"alias.ErrWrongKey":     {alias.ErrWrongKey, 500, "internal"},
	"tokenError":            {&tokenError{"x"}, 500, "internal"},
	"alias.InUseError":      {&alias.InUseError{Credential: "c", Aliases: []alias.Name{"a"}}, 409, "in-use"},
	"alias.ValidationError": {&alias.ValidationError{Problems: []alias.Problem{{Field: "f", Detail: "d"}}}, 400, "invalid"},

	"errBadRequest":     {errBadRequest, 400, "bad-request"},
	"errInvalid":        {errInvalid, 400, "invalid"},
	"errUnauthorized":   {errUnauthorized, 401, "unauthorized"},
	"errWrongTokens":    {errWrongTokens, 429, "wrong-tokens"},
	"errForbidden":      {errForbidden, 403, "forbidden"},
	"errNoRoute":        {errNoRoute, 404, "not-found"},
	"errMethod":         {errMethod, 405, "method"},
	"errTimeout":        {errTimeout, 408, "timeout"},
	"errTooLarge":       {errTooLarge, 413, "body"},
	"errMediaType":      {errMediaType, 415, "media-type"},
	"errHeaders":        {errHeaders, 431, "headers"},
	"alias.ErrNotRole":  {alias.ErrNotRole, 409, "not-role"},
	"alias.ErrSTS":      {alias.ErrSTS, 503, "sts"},
	"ErrNotDurable":     {ErrNotDurable, 503, "not-durable"},
	"errExpect":         {errExpect, 417, "expect"},
	"errHost":           {errHost, 421, "host"},
	"errNoPicture":      {errNoPicture, 404, "no-picture"},
	"errPictureSize":    {errPictureSize, 413, "picture-size"},
	"errStreams":        {errStreams, 503, "overloaded"},
	"errNotReady":       {errNotReady, 503, "not-ready"},
	"errNotImplemented": {errNotImplemented, 501, "not-implemented"},
	"errVersion":        {errVersion, 505, "http-version"},
	"errInternal":       {errInternal, 500, "internal"},
}

func TestErrorAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range answers {
		for how, err := range map[string]error{
			"bare": c.err, "wrapped": fmt.Errorf("put it: %w", c.err), "joined": errors.Join(errors.New("x"), c.err),
		} {
			k, f := classify(err)
			if k.status != c.status || k.code != c.code || k.title == "" {
				t.Errorf("%s, %s: got %d %s %q, want %d %s", name, how, k.status, k.code, k.title, c.status, c.code)
			}
			if c.code == "internal" && f.detail != kinds[len(kinds)-1].detail {
				t.Errorf("%s, %s: the cause is shown: %q", name, how, f.detail)
			}
		}
	}
	k, f := classify(errors.New(testSecret))
	if k.status != http.StatusInternalServerError || strings.Contains(f.detail, testSecret) {
		t.Errorf("an unknown error gives %d %q", k.status, f.detail)
	}
}

func TestEveryErrorHasAnAnswer(t *testing.T) {
	t.Parallel()
	found := 0
	for dir, prefix := range map[string]string{"..": "alias.", ".": ""} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, name := range errorsIn(t, file) {
				if prefix == "alias." && !ast.IsExported(name) || name == "OperationError" { // which is no error but data
					continue
				}
				found++
				if _, ok := answers[prefix+name]; !ok {
					t.Errorf("%s of %s has no row in answers: decide on its status", prefix+name, file)
				}
			}
		}
	}
	if found != len(answers) {
		t.Errorf("found %d errors, but answers has %d rows", found, len(answers))
	}
}

// errorsIn names the package-level error values and types of a file.
func errorsIn(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, decl := range parsed.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if strings.HasPrefix(n.Name, "Err") || strings.HasPrefix(n.Name, "err") {
						names = append(names, n.Name)
					}
				}
			case *ast.TypeSpec:
				if strings.HasSuffix(s.Name.Name, "Error") {
					names = append(names, s.Name.Name)
				}
			}
		}
	}
	return names
}

// TestKindsAreReachable makes sure that no row is hidden by one above it.
func TestKindsAreReachable(t *testing.T) {
	t.Parallel()
	for _, want := range kinds {
		if got, f := classify(want.is); got.code != want.code || got.status != want.status || f.detail != want.detail {
			t.Errorf("%s: got %d %s", want.code, got.status, got.code)
		}
	}
}

// TestDatabaseLocked has another process hold the database's lock.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	other, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(a.dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	locked, unlock, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- other.Update(t.Context(), func(alias.Tx) error {
			close(locked)
			<-unlock
			return nil
		})
	}()
	<-locked
	r := a.do("PATCH", aliasesPath+"/shop", `{"enabled":false}`).want(503, "unavailable")
	if got := r.header.Get("Retry-After"); got != retryAfter {
		t.Errorf("Retry-After: got %q, want %q", got, retryAfter)
	}
	if !strings.Contains(r.problem().Detail, "locked by another process") {
		t.Errorf("detail: %q", r.problem().Detail)
	}
	lines := a.logs.lines(t)
	if cause, _ := lines[len(lines)-1]["error"].(string); !strings.Contains(cause, "another process holds the lock") {
		t.Errorf("log line: %v", lines[len(lines)-1])
	}
	a.do("GET", aliasesPath+"/shop", "").want(200, "")
	close(unlock)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a.do("PATCH", aliasesPath+"/shop", `{"enabled":false}`).want(200, "")
}
