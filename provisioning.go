package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/provision"
	"ixmage/metrics"
	"ixmage/proxy/origin"
)

// provisionFlags are the part of the configuration that is about IAM.
type provisionFlags struct {
	Provision        toggle   `help:"Make IAM users for aliases, with the credentials of the AWS default chain."`
	IAMEndpoint      string   `name:"iam-endpoint" help:"URL of an IAM server that is not AWS." placeholder:"URL"`
	STSEndpoint      string   `name:"sts-endpoint" help:"URL of its STS. Default: the IAM endpoint, if that is set." placeholder:"URL"`
	IAMBoundary      string   `name:"iam-boundary" help:"Permissions boundary put on every user we make." placeholder:"ARN"`
	ProvisionBuckets patterns `help:"Buckets that may be provisioned: names or patterns like acme-*, separated by commas. Default: none."`
	AllowWideScope   toggle   `help:"Allow the policy read-only-access, which reads every bucket of the account."`
	InstallID        string   `name:"install-id" help:"Name of this installation; users live under /ixmage/<install-id>/. Default: generated, kept in the registry." placeholder:"ID"`

	CanaryInterval           duration `default:"5m" help:"How often the canary of an alias is read."`
	CanaryFresh              duration `default:"5s" help:"How old a reading may be to decide what AccessDenied means."`
	ProvisionVisibleTimeout  duration `default:"90s" help:"Longest wait for what IAM has done to be seen."`
	ProvisionVerifyTimeout   duration `default:"2m" help:"Longest wait for a new key to work."`
	ProvisionVerifyInterval  duration `default:"2.5s" help:"Pause between the five times in a row that a new key must work."`
	ProvisionRefusedTimeout  duration `default:"2m" help:"Longest wait for a dead key to be refused."`
	ProvisionRefusedInterval duration `default:"1s" help:"Pause between the three times in a row that a dead key must be refused."`
	ProvisionConfirmInterval duration `default:"10s" help:"Pause between the two looks that make sure that a user is gone."`
	RotationFallback         duration `default:"15m" help:"How long requests may fall back on the old key after a rotation."`
	RotationSoak             duration `default:"15m" help:"How long the old key stays active after a rotation."`
	RotationQuiet            duration `default:"5m" help:"How long nothing may have fallen back on the old key before it is made inactive."`
	RotationSoakInactive     duration `default:"10m" help:"How long the old key stays inactive before it is deleted."`
	RotationInterval         duration `default:"10s" help:"Least time between two scheduled rotations."`
	ReconcileInterval        duration `default:"1h" help:"How often to look for what is left behind in IAM."`
	ReconcileAge             duration `default:"1h" help:"How old something unknown in IAM must be to be touched."`
}

// problems are the mistakes that need more than one flag to be seen.
func (f *provisionFlags) problems(m *complaints) {
	for _, e := range []struct{ flag, value string }{{"iam-endpoint", f.IAMEndpoint}, {"sts-endpoint", f.STSEndpoint}} {
		if u, err := url.Parse(e.value); e.value != "" && (err != nil || u.Host == "" || u.User != nil ||
			u.Scheme != "http" && u.Scheme != "https") {
			m.addf(e.flag, "%q is no URL of a server: use a form like https://iam.example.com", e.value)
		}
	}
	if f.IAMBoundary != "" && !boundaryForm.MatchString(f.IAMBoundary) {
		m.addf("iam-boundary", "%q is no ARN of a policy: use a form like arn:aws:iam::123456789012:policy/name",
			f.IAMBoundary)
	}
	if f.InstallID != "" && !installForm.MatchString(f.InstallID) {
		m.addf("install-id", "%q is no install id: use 1 to 32 of a-z, 0-9 and hyphen", f.InstallID)
	}
}

var (
	boundaryForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]{1,512}$`)
	installForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
)

// patterns are bucket names with wildcards.
type patterns struct {
	list []string
	bad  string
}

// UnmarshalText reads a list separated by commas.
func (v *patterns) UnmarshalText(text []byte) error {
	*v = patterns{}
	for part := range strings.SplitSeq(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if p := provision.PatternProblem(part); p != "" && v.bad == "" {
			v.bad = fmt.Sprintf("%q %s", part, p)
		}
		v.list = append(v.list, part)
	}
	return nil
}

func (v *patterns) problem() string { return v.bad }

func (f *provisionFlags) timing() provision.Timing {
	return provision.Timing{
		Visible:      f.ProvisionVisibleTimeout.d,
		VerifyBudget: f.ProvisionVerifyTimeout.d, VerifyEvery: f.ProvisionVerifyInterval.d,
		Fallback: f.RotationFallback.d, Soak: f.RotationSoak.d, Quiet: f.RotationQuiet.d,
		SoakInactive: f.RotationSoakInactive.d,
		Refused:      f.ProvisionRefusedTimeout.d, RefusedEvery: f.ProvisionRefusedInterval.d,
		ConfirmGap: f.ProvisionConfirmInterval.d,
		Reconcile:  f.ReconcileInterval.d, OrphanAge: f.ReconcileAge.d,
		RotateGap: f.RotationInterval.d,
	}
}

// metaInstallID is where the registry keeps the install id.
const metaInstallID = "install_id"

// installID is the name of this installation: the one that is configured, else
// the one that was made at the first start. An id once used stays, because the
// users in IAM bear it.
func (f *provisionFlags) installID(ctx context.Context, store alias.Store, log *slog.Logger) (string, error) {
	kept, err := store.Meta(ctx, metaInstallID)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return "", err
	}
	id := f.InstallID
	switch {
	case id == "" && kept != nil:
		return string(kept), nil
	case id == "":
		id = strings.ToLower(rand.Text()[:12])
	case kept != nil && string(kept) != id:
		log.Warn("the install id is another one than before: users made under the old one are not seen any more",
			"before", string(kept), "now", id)
	}
	return id, store.Update(ctx, func(tx alias.Tx) error { return tx.SetMeta(metaInstallID, []byte(id)) })
}

// provisioning is what works on IAM, and what reads canaries.
type provisioning struct {
	*provision.Provisioner
	canary *provision.Canary
}

// provisioning makes both. Without --provision no call of IAM is ever made; plans,
// verification and canaries work all the same.
func (s *serveCmd) provisioning(
	ctx context.Context, log *slog.Logger, registry *alias.Registry, d provisioningDeps,
) (*provisioning, error) {
	id, err := s.installID(ctx, registry.Store(), log)
	if err != nil {
		return nil, err
	}
	canary := provision.NewCanary(provision.CanaryConfig{
		Routes: registry.Routes, Client: d.s3.ClientOf, Every: s.CanaryInterval.d, Fresh: s.CanaryFresh.d,
		Recorder: d.metrics, Log: log,
	})
	cfg := provision.Config{
		Registry: registry, S3: d.s3.Client, InstallID: id, Boundary: s.IAMBoundary,
		Buckets: s.ProvisionBuckets.list, AllowWideScope: s.AllowWideScope.on, IAMEndpoint: s.IAMEndpoint,
		Timing: s.timing(), Recorder: d.metrics, Log: log,
	}
	endpoints := provision.Endpoints{IAM: s.IAMEndpoint, STS: s.STSEndpoint}
	if cfg.Probes, err = provision.OpenAWS(ctx, endpoints); err != nil {
		return nil, err
	}
	if s.Provision.on {
		cfg.AWS = cfg.Probes
		s.warn(log)
	}
	return &provisioning{provision.New(cfg), canary}, nil
}

// provisioningDeps are what provisioning works on.
type provisioningDeps struct {
	s3      *origin.Origin
	metrics *metrics.Metrics
}

func (f *provisionFlags) warn(log *slog.Logger) {
	if f.IAMBoundary == "" {
		log.Warn("users are made without a permissions boundary: see --iam-boundary")
	}
	if len(f.ProvisionBuckets.list) == 0 {
		log.Warn("no bucket may be provisioned: see --provision-buckets")
	}
}

// Run runs operations and canaries until ctx ends.
func (p *provisioning) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Provisioner.Run(ctx) })
	g.Go(func() error { return p.canary.Run(ctx) })
	return g.Wait()
}

// observe lets Prometheus read what runs, and shows the credentials that there are.
func (p *provisioning) observe(registry *alias.Registry, m *metrics.Metrics) {
	m.Running(p.Running)
	m.Canaries(func(name string) bool {
		route, ok := registry.Lookup(name)
		return ok && route.Alias.Canary != ""
	})
	registry.CredentialsInMemory(func(c *alias.Credential) bool {
		showCredential(m, c)
		return true
	})
}

// showCredential tells Prometheus of a credential that a key pair was made for.
func showCredential(m *metrics.Metrics, c *alias.Credential) {
	info := metrics.CredentialInfo{Created: c.CreatedAt, Scope: c.Scope}
	if !c.RotatedAt.IsZero() {
		info.Created = c.RotatedAt
	}
	if p, ok := c.Provisioned(); ok {
		info.RotateEvery = p.RotateEvery
	}
	if c.AccessKeyID() == "" {
		info.Created = time.Time{}
	}
	m.Credential(string(c.Name), info)
}
