package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// otherChecks are about other services, and about servers that are not AWS.
func otherChecks() []check {
	const elsewhere = "needs an account there; a run is in one account of AWS"
	return []check{
		{name: "guardduty", run: guardDuty,
			says: "what GuardDuty reports of a provisioning, if it is on; docs/iam.md lists what it may report"},
		{name: "google-reads", run: untried(elsewhere),
			says: "reads from Google Cloud Storage: reports on Accept-Encoding in the signature conflict"},
		{name: "r2-bucket-owner", run: untried(elsewhere), says: "R2 does not know the header of bucket_owner"},
		{name: "spaces-b2-reads", run: untried(elsewhere), says: "reads from Spaces and B2"},
		{name: "wasabi-iam", run: untried(elsewhere), says: "boundaries and the last use of keys at Wasabi"},
		{name: "minio-iam", run: untried("MinIO has no IAM of AWS: it is known from its source"),
			says: "provisioning is not possible at MinIO"},
	}
}

// guardDuty looks at the findings of the last hour. GuardDuty may take days for one.
func guardDuty(ctx context.Context, e *env) (answer, error) {
	if e.o.custom() {
		return answer{}, notTriedError("the server has no GuardDuty")
	}
	return e.findings(ctx, "https://guardduty."+e.o.region+".amazonaws.com")
}

// findings reads the detector and the types of its findings.
func (e *env) findings(ctx context.Context, base string) (answer, error) {
	var detectors struct {
		IDs []string `json:"detectorIds"` //nolint:tagliatelle // the names are AWS's
	}
	if err := e.signed(ctx, base+"/detector", nil, &detectors); err != nil {
		return answer{}, err
	}
	if len(detectors.IDs) == 0 {
		return answer{}, notTriedError("GuardDuty is off in this region; switch it on days before, it needs a baseline")
	}
	list := base + "/detector/" + detectors.IDs[0] + "/findings"
	var ids struct {
		IDs []string `json:"findingIds"` //nolint:tagliatelle // likewise
	}
	since := map[string]any{"findingCriteria": map[string]any{"criterion": map[string]any{
		"updatedAt": map[string]int64{"greaterThanOrEqual": e.began.Add(-time.Hour).UnixMilli()},
	}}}
	if err := e.signed(ctx, list, since, &ids); err != nil {
		return answer{}, err
	}
	const later = "look again tomorrow: a finding may take a day"
	if len(ids.IDs) == 0 {
		return answer{"no findings yet", later}, nil
	}
	var found struct {
		Findings []struct {
			Type     string  `json:"type"`
			Severity float64 `json:"severity"`
		} `json:"findings"`
	}
	if err := e.signed(ctx, list+"/get", map[string]any{"findingIds": ids.IDs}, &found); err != nil {
		return answer{}, err
	}
	types := make([]string, 0, len(found.Findings))
	for _, f := range found.Findings {
		types = append(types, fmt.Sprintf("%s (%.0f)", f.Type, f.Severity))
	}
	return answer{strings.Join(types, ", "), later}, nil
}

// signed calls GuardDuty, for which the product has no client: POST with a body, else GET.
func (e *env) signed(ctx context.Context, url string, body, out any) error {
	var text []byte
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	keys, err := e.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return errors.New("the caller has no credentials")
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:])
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hash, "guardduty", e.o.region, time.Now()); err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusForbidden:
		return notTriedError("the caller may not ask GuardDuty")
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("GuardDuty answers %s", resp.Status)
	}
	return json.Unmarshal(answer, out)
}
