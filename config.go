package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/admin"
	"ixmage/alias/cli"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
	"ixmage/alias/seal"
	"ixmage/alias/session"
	"ixmage/internal/logging"
	"ixmage/internal/tracing"
	"ixmage/proxy"
	"ixmage/proxy/origin"
)

const (
	defaultListen = ":8080" // the healthcheck needs it too
	envToken      = "IXMAGE_ADMIN_TOKEN"
)

// serveCmd is the configuration: flags, variables, defaults and help. The hidden flags
// are for tests and the demo; docs/operations.md explains them.
type serveCmd struct {
	Listen            string `default:"${listen}" help:"Public listener; port 0 picks one."`
	ClientConnections int    `default:"4096" min:"0" help:"Connections, and requests under way, of one client address (IPv6: /64). Loopback and trusted proxies are exempt. 0: no limit."`
	TrustedProxies    cidrs  `help:"Proxies in front, as addresses or CIDRs separated by commas: the client of their requests is taken from Forwarded or X-Forwarded-For. Default: none." placeholder:"CIDR,..."`
	PublicURL         webURL `name:"public-url" help:"URL under which clients reach the public listener, as the console shows it. Default: http, the host of the console and the port of the public listener." placeholder:"URL"`

	AdminListen   string    `default:"127.0.0.1:8081" help:"Admin API; metrics too unless --metrics-listen is set."`
	MetricsListen string    `help:"Metrics and health on a listener of their own." placeholder:"ADDR"`
	AdminHost     hostNames `help:"Names, separated by commas, that an admin or metrics listener on loopback answers for, besides localhost and loopback addresses; any other Host is answered 421. A listener on another address answers for any."`
	AdminTLSCert  string    `name:"admin-tls-cert" help:"Certificate of the admin listener, PEM." placeholder:"FILE"`
	AdminTLSKey   string    `name:"admin-tls-key" help:"Its private key, PEM." placeholder:"FILE"`
	AdminInsecure bool      `help:"Allow an admin address that is not loopback without TLS."`

	Data           string        `default:"./ixmage-data" help:"Folder for the registry, the key set, the admin token and the disk cache; made 0700."`
	Store          string        `help:"PostgreSQL database of the registry, for many nodes: postgres://USER@HOST/DATABASE, with the parameters of libpq. The password can be in IXMAGE_STORE, PGPASSWORD or PGPASSFILE. Default: SQLite in the data folder." placeholder:"URL"`
	Node           string        `help:"Name of this node among those that share a --store. Default: the host name." placeholder:"NAME"`
	NodeGrace      time.Duration `default:"24h" help:"How long a node that is silent, and was not removed with ixmage node rm, keeps previous keys from being retired."`
	MaxRegistryAge time.Duration `default:"0s" min:"0" help:"With --store: answer 503 for pictures when the database has not answered for so long, instead of serving with what this node knows. At least 1s. 0: never."`
	NodeBeat       time.Duration `hidden:"" default:"5s" help:"Interval at which a node reports to the database, and reads it if no notification comes."`
	NodeLease      time.Duration `hidden:"" default:"15s" help:"How long a node that does not report counts as live and keeps its leases."`
	AdminTokenFile string        `help:"Bearer token of the admin API; or the value itself in IXMAGE_ADMIN_TOKEN. Default: generated into <data>/admin-token." placeholder:"FILE"`
	MasterKey      string        `help:"file:PATH or aws-kms://ARN. Default: generated into <data>/master.keyset." placeholder:"KEY"`

	CacheMemory    amount     `default:"256MiB" help:"Budget of the memory tier, everything counted: bytes, or a percentage of the memory of this machine or its cgroup, as in 25%. 0 stores nothing."`
	CacheObjectMax alias.Size `default:"32MiB" help:"A larger object is streamed past the cache."`

	CacheDisk          amount     `default:"0" help:"Budget of the disk tier: bytes, or a percentage of its file system, as in 25%. 0: there is none."`
	CacheDiskPath      string     `help:"Folder of the disk tier; made 0700. Default: <data>/cache." placeholder:"FOLDER"`
	CacheDiskObjectMax alias.Size `default:"1GiB" help:"A larger object is not stored on disk."`

	TransformWorker      string        `help:"Program that resizes pictures, bin/ixmage-worker of make worker. Default: none, and the query of a URL changes nothing." placeholder:"PATH"`
	TransformWorkers     int           `default:"0" min:"0" help:"Workers, each of which transforms one picture at a time. 0: one for each processor."`
	TransformTimeout     time.Duration `default:"5s" help:"Longest time for one picture; its worker is killed then. At most 10s."`
	TransformMemory      alias.Size    `default:"1GiB" help:"Address space of one worker, at most 1GiB. It is no part of --cache-memory."`
	TransformAliasShare  int           `default:"75" min:"1" help:"Percentage of the time of all workers that the requests for one alias may take on average; more are answered 429. 100: no limit."`
	TransformClientShare int           `default:"25" min:"1" help:"The same for one client address (IPv6: /64). Loopback, and trusted proxies that name no client, are exempt. 100: no limit."`

	AllowPrivateEndpoints bool `help:"Custom S3 endpoints may be plain http and resolve to loopback or private addresses; link-local and metadata addresses never."`

	OriginCA string `name:"origin-ca" help:"Certificates, PEM, of authorities that S3, IAM and STS servers are trusted with, besides those of the system." placeholder:"FILE"`

	OriginConnectTimeout   time.Duration `default:"2s" help:"Longest wait for a connection to S3."`
	OriginFirstByteTimeout time.Duration `default:"3.5s" help:"Longest wait for the headers of one reply of S3."`
	OriginCallTimeout      time.Duration `default:"8s" help:"Longest wait for the headers with all retries, and for the first bytes."`
	OriginIdleTimeout      time.Duration `default:"10s" help:"Longest wait for the next 4 KiB of a body from S3, or the rest of it."`
	OriginQueueTimeout     time.Duration `default:"5s" help:"Longest wait for a free request slot when --origin-concurrency is reached."`
	OriginConcurrency      int           `default:"256" help:"Concurrent requests to S3."`
	OriginAliasConcurrency int           `default:"64" help:"Concurrent requests to S3 for one alias."`
	OriginQueue            int           `default:"1024" help:"Requests that may wait for S3; more are answered 503."`
	BreakerFailures        int           `default:"10" min:"0" help:"Consecutive failures, each for another object, that open the circuit of a credential and endpoint: further requests are answered 503 at once. 0: never."`
	BreakerOpen            time.Duration `default:"5s" help:"Time until an open circuit lets one request through as a test; doubled after each test that fails, up to 8 s."`

	UsageFlush time.Duration `default:"15s" help:"Interval at which usage counts are stored; a crash loses at most one interval."`

	ShutdownTimeout time.Duration `default:"30s" help:"How long listeners drain after SIGTERM."`
	MetricsAliasCap int           `default:"1000" help:"Aliases with their own series; the others count as _other."`
	LogFormat       string        `default:"text" help:"text or json."`
	LogLevel        string        `default:"info" help:"debug, info, warn or error."`

	OTLPEndpoint string  `name:"otlp-endpoint" help:"OpenTelemetry collector that traces are sent to, OTLP over HTTP: a URL, to which /v1/traces is added. Default: no tracing." placeholder:"URL"`
	TraceSample  float64 `default:"0.01" help:"Share of requests that are traced, from 0 to 1. A request from a trusted proxy with a traceparent is traced if that says so."`

	Provision              bool         `help:"Make IAM users for aliases, with the credentials of the AWS default chain."`
	IAMEndpoint            string       `name:"iam-endpoint" help:"URL of an IAM server that is not AWS." placeholder:"URL"`
	STSEndpoint            string       `name:"sts-endpoint" help:"URL of its STS, also for sessions of roles. Default: the IAM endpoint, if that is set." placeholder:"URL"`
	IAMBoundary            string       `name:"iam-boundary" help:"Permissions boundary of every IAM user that ixmage makes." placeholder:"ARN"`
	IAMNoBoundary          bool         `name:"iam-no-boundary" help:"Make IAM users without a permissions boundary on AWS. The credentials of this server are then administrator of the account."`
	ProvisionBuckets       patterns     `help:"Buckets that may be provisioned: names or patterns like acme-*, separated by commas. Default: none."`
	ProvisionTags          tagKeys      `help:"Keys of tags that a provision request may set on its IAM user, separated by commas. Bucket and key policies can grant rights by tags. Default: none." placeholder:"KEY,..."`
	AdoptUsers             users        `help:"IAM users made by hand that a provision request may take over: names or patterns like ixmage-s3read*, separated by commas. Default: none." placeholder:"PATTERN,..."`
	Accounts               string       `help:"AWS accounts, beside that of the credentials of this server, in which IAM users may be made: YAML with the role, boundary and buckets of each. Default: none." placeholder:"FILE"`
	AllowWideScope         bool         `help:"Allow the policy read-only-access, which reads every bucket of the account, and sessions of roles without a session policy."`
	AssumeRoles            rolePatterns `help:"Roles whose sessions may read buckets: ARNs or patterns like arn:aws:iam::123456789012:role/ixmage-*, separated by commas. Default: none." placeholder:"ARN-PATTERN,..."`
	AllowDefaultCredential bool         `help:"Allow aliases that are read with the credentials of this server itself: those of the AWS default chain."`
	InstallID              string       `name:"install-id" help:"Name of this installation; users live under /ixmage/<install-id>/. Default: generated, kept in the registry." placeholder:"ID"`

	CanaryInterval           time.Duration `hidden:"" default:"5m" help:"Interval between two reads of an alias's canary."`
	CanaryFresh              time.Duration `hidden:"" default:"5s" help:"Greatest age of a canary result that decides what AccessDenied means."`
	ProvisionVisibleTimeout  time.Duration `hidden:"" default:"90s" help:"Longest wait until a change in IAM is visible."`
	ProvisionVerifyTimeout   time.Duration `hidden:"" default:"2m" help:"Longest wait until a new key works."`
	ProvisionVerifyInterval  time.Duration `hidden:"" default:"2.5s" help:"Pause between the five consecutive times that a new key must work."`
	ProvisionRefusedTimeout  time.Duration `hidden:"" default:"2m" help:"Longest wait until a deleted key is refused."`
	ProvisionRefusedInterval time.Duration `hidden:"" default:"1s" help:"Pause between the three consecutive times that a deleted key must be refused."`
	ProvisionConfirmInterval time.Duration `hidden:"" default:"10s" help:"Pause between the two checks that a user is gone."`
	RotationFallback         time.Duration `hidden:"" default:"15m" help:"How long after a rotation requests may still use the previous key when the new one is refused."`
	RotationSoak             time.Duration `hidden:"" default:"15m" help:"How long the previous key stays active after a rotation."`
	RotationQuiet            time.Duration `hidden:"" default:"5m" help:"How long no request may have used the previous key before it is made inactive."`
	RotationSoakInactive     time.Duration `hidden:"" default:"10m" help:"How long the previous key stays inactive before it is deleted."`
	RotationInterval         time.Duration `hidden:"" default:"10s" help:"Shortest time between the starts of two scheduled rotations."`
	ReconcileInterval        time.Duration `hidden:"" default:"1h" help:"Interval between two searches of IAM for orphans."`
	ReconcileAge             time.Duration `hidden:"" default:"1h" help:"Age at which an unknown user in IAM counts as an orphan. A key that is probably ours is deleted after 24 times that."`

	errs  configErrors     // invalid values, found while they are parsed
	cert  *tls.Certificate // loaded by validate
	roots *x509.CertPool   // loaded by validate; nil: those of the system
	list  *accounts.List   // of --accounts, loaded by validate; nil: none
	token alias.Secret     // read by validate, if one was given

	traces proxy.Tracer // nil without --otlp-endpoint; made by serveTraced

	warnings logging.Warnings // of the start
	terminal bool             // whether a person reads the log
}

// configErrors are the errors of a configuration. They are reported together, each with
// its flag, its variable and the accepted form.
type configErrors []configError

type configError struct{ flag, text string }

func (e *configErrors) addf(flag, format string, args ...any) {
	*e = append(*e, configError{flag, fmt.Sprintf(format, args...)})
}

func (e configError) String() string {
	return fmt.Sprintf("--%s (%s): %s", e.flag, envName(e.flag), e.text)
}

func envName(flag string) string {
	return "IXMAGE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// validate returns every error of the configuration.
func (s *serveCmd) validate() configErrors {
	errs := slices.Clone(s.errs)
	s.checkAddrs(&errs)
	s.checkTLS(&errs)
	s.checkOriginCA(&errs)
	s.checkSecrets(&errs)
	s.checkIAM(&errs)
	s.checkBoundary(&errs)
	s.checkAccounts(&errs)
	s.checkDisk(&errs)
	s.checkTransforms(&errs)
	s.checkTracing(&errs)
	if s.Data == "" {
		errs.addf("data", "is empty: name a folder")
	}
	s.checkFleet(&errs)
	if c := s.OriginConcurrency; s.OriginAliasConcurrency > c && c > 0 {
		errs.addf("origin-alias-concurrency", "%d is more than --origin-concurrency %d", s.OriginAliasConcurrency, c)
	}
	if !slices.Contains([]string{"text", "json"}, s.LogFormat) {
		errs.addf("log-format", "%q is neither text nor json", s.LogFormat)
	}
	if _, ok := levels[s.LogLevel]; !ok {
		errs.addf("log-level", "%q is none of debug, info, warn, error", s.LogLevel)
	}
	return errs
}

func (s *serveCmd) checkAddrs(errs *configErrors) {
	for _, l := range []struct{ flag, addr string }{
		{"listen", s.Listen}, {"admin-listen", s.AdminListen}, {"metrics-listen", s.MetricsListen},
	} {
		if l.addr == "" && l.flag == "metrics-listen" {
			continue
		}
		if checkAddr(l.addr) != nil {
			errs.addf(l.flag, "%q is not an address: use host:port, or :port for all interfaces", l.addr)
		}
	}
}

func (s *serveCmd) checkSecrets(errs *configErrors) {
	env := os.Getenv(envToken)
	var err error
	switch {
	case env != "":
		s.token, err = admin.EnvToken(env)
	case s.AdminTokenFile != "":
		s.token, err = admin.FileToken(s.AdminTokenFile)
	}
	if err != nil {
		errs.addf("admin-token-file", "%v", err)
	}
	if env != "" && s.AdminTokenFile != "" {
		errs.addf("admin-token-file", "%s is set too: use one of them", envToken)
	}
	if err := seal.ValidateMaster(s.MasterKey); err != nil {
		errs.addf("master-key", "%v", err)
	}
}

// checkTLS loads the certificate of the admin listener, and refuses a configuration in
// which clients would send the token unencrypted over a network.
func (s *serveCmd) checkTLS(errs *configErrors) {
	switch {
	case s.AdminTLSCert != "" && s.AdminTLSKey != "":
		cert, err := tls.LoadX509KeyPair(s.AdminTLSCert, s.AdminTLSKey)
		if err != nil {
			errs.addf("admin-tls-cert", "cannot be used with --admin-tls-key: %v", err)
			return
		}
		s.cert = &cert
	case s.AdminTLSCert != "":
		errs.addf("admin-tls-key", "is missing: --admin-tls-cert needs it")
	case s.AdminTLSKey != "":
		errs.addf("admin-tls-cert", "is missing: --admin-tls-key needs it")
	case !s.AdminInsecure && checkAddr(s.AdminListen) == nil && !isLoopback(s.AdminListen):
		errs.addf("admin-listen", "%s is not a loopback address, and the token would be sent unencrypted: "+
			"set --admin-tls-cert and --admin-tls-key, or --admin-insecure if a proxy in front adds TLS", s.AdminListen)
	}
}

// maxCertificates bounds the file of --origin-ca: the authorities of a whole system take
// about 300 KiB.
const maxCertificates = 8 << 20

func (s *serveCmd) checkTracing(errs *configErrors) {
	if s.OTLPEndpoint == "" {
		return
	}
	if _, err := tracing.ParseEndpoint(s.OTLPEndpoint); err != nil {
		errs.addf("otlp-endpoint", "%v", err)
	}
}

// checkOriginCA loads the certificates of --origin-ca.
func (s *serveCmd) checkOriginCA(errs *configErrors) {
	if s.OriginCA == "" {
		return
	}
	f, err := os.Open(s.OriginCA)
	if err != nil {
		errs.addf("origin-ca", "%v", err)
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCertificates))
	if err == nil {
		s.roots, err = rootsWith(text)
	}
	if err != nil {
		errs.addf("origin-ca", "%s: %v; name a file of certificates in PEM form", s.OriginCA, err)
	}
}

// rootsWith returns the authorities of the system and those of a PEM file.
func rootsWith(text []byte) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // as in a container without any
	}
	blocks := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is a %.40q and no CERTIFICATE", blocks, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", blocks, err)
		}
		roots.AddCert(cert)
	}
	switch begun := bytes.Count(text, []byte("-----BEGIN ")); {
	case begun == 0:
		return nil, errors.New("it contains no certificate")
	case begun != blocks: // pem.Decode passes over a damaged one
		return nil, fmt.Errorf("%d of %d certificates are damaged", begun-blocks, begun)
	}
	return roots, nil
}

func (s *serveCmd) checkIAM(errs *configErrors) {
	for _, e := range []struct{ flag, value string }{{"iam-endpoint", s.IAMEndpoint}, {"sts-endpoint", s.STSEndpoint}} {
		if u, err := url.Parse(e.value); e.value != "" && (err != nil || u.Host == "" || u.User != nil ||
			u.Scheme != "http" && u.Scheme != "https") {
			errs.addf(e.flag, "%q is not the URL of a server: use a form like https://%s.example.com", e.value, e.flag[:3])
		}
	}
	if s.InstallID != "" && !installForm.MatchString(s.InstallID) {
		errs.addf("install-id", "%q is not an install id: use 1 to 32 of a-z, 0-9 and hyphen", s.InstallID)
	}
}

func (s *serveCmd) checkBoundary(errs *configErrors) {
	if s.IAMBoundary == "" {
		return
	}
	if !policy.IsBoundary(s.IAMBoundary) {
		errs.addf("iam-boundary", "%q is not the ARN of a policy: use a form like arn:aws:iam::123456789012:policy/name",
			s.IAMBoundary)
	}
	if s.IAMNoBoundary {
		errs.addf("iam-no-boundary", "contradicts --iam-boundary %s: use one of them", s.IAMBoundary)
	}
}

// checkAccounts loads the file of --accounts. Each of its mistakes is an error of its own.
func (s *serveCmd) checkAccounts(errs *configErrors) {
	if s.Accounts == "" {
		return
	}
	list, problems, err := accounts.Load(s.Accounts)
	if err != nil {
		errs.addf("accounts", "%v; name a YAML file with a list of accounts", err)
	}
	for _, p := range problems {
		errs.addf("accounts", "%s", p)
	}
	s.list = list
}

var installForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err
}

func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.Unmap().IsLoopback())
}

// originDeps are the parts that the S3 client needs.
type originDeps struct {
	previousKeys *previousKeyNotifier
	slow         *proxy.SlowReaders
	sessions     *session.Sessions
	now          func() time.Time // nil: the clock of the machine
	outdated     func() bool      // nil: the registry never is
}

// origin returns the configuration of the S3 client.
func (s *serveCmd) origin(log *slog.Logger, registry *alias.Registry, d originDeps) origin.Config {
	return origin.Config{
		Lookup: registry.Lookup, PreviousKeyUsed: d.previousKeys.used, CutSlow: d.slow.CutForSlot, Sessions: d.sessions,
		Now: d.now, Outdated: d.outdated,
		ConnectTimeout: s.OriginConnectTimeout, FirstByteTimeout: s.OriginFirstByteTimeout,
		CallTimeout: s.OriginCallTimeout, IdleTimeout: s.OriginIdleTimeout, QueueTimeout: s.OriginQueueTimeout,
		Concurrency: s.OriginConcurrency, AliasConcurrency: s.OriginAliasConcurrency, Queue: s.OriginQueue,
		IdleConns:       s.descriptors().idleS3,
		BreakerFailures: s.BreakerFailures, BreakerOpen: s.BreakerOpen,
		AllowPrivateEndpoints: s.AllowPrivateEndpoints, Roots: s.roots, Log: log,
	}
}

// sessions returns the configuration of temporary keys.
func (s *serveCmd) sessions(log *slog.Logger, own *awsParts, d awsDeps) session.Config {
	base, endpoint := own.machine.Base()
	return session.Config{
		Registry: d.registry, AWS: base, Endpoint: endpoint, InstallID: own.installID, AssumeRoles: s.AssumeRoles,
		AllowDefault: s.AllowDefaultCredential, AllowWideScope: s.AllowWideScope, Accounts: s.list,
		Recorder: d.metrics, Log: log,
	}
}

// timing returns the times of provisioning.
func (s *serveCmd) timing() provision.Timing {
	return provision.Timing{
		Visible:      s.ProvisionVisibleTimeout,
		VerifyBudget: s.ProvisionVerifyTimeout, VerifyEvery: s.ProvisionVerifyInterval,
		PreviousKey: s.RotationFallback, Soak: s.RotationSoak, Quiet: s.RotationQuiet,
		SoakInactive: s.RotationSoakInactive,
		Refused:      s.ProvisionRefusedTimeout, RefusedEvery: s.ProvisionRefusedInterval,
		ConfirmGap: s.ProvisionConfirmInterval,
		Reconcile:  s.ReconcileInterval, OrphanAge: s.ReconcileAge, KeyAge: 24 * s.ReconcileAge,
		RotateGap: s.RotationInterval,
		Look:      s.NodeBeat,
	}
}

func (s *serveCmd) openLog(w io.Writer) *logging.Log {
	return logging.Open(logging.Config{
		Out: w, JSON: s.LogFormat == "json", Level: levels[s.LogLevel], Limited: limitedMessages,
	})
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// unknownEnv lists variables with the prefix of flags that belong to no flag.
func unknownEnv(flags []*kong.Flag) []string {
	known := map[string]bool{envToken: true, cli.EnvURL: true}
	for _, f := range flags {
		for _, name := range f.Envs {
			known[name] = true
		}
	}
	var unknown []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "IXMAGE_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// dropEmptyEnv removes empty variables: in containers and unit files an empty variable
// means the default, and kong would use it as a value.
func dropEmptyEnv() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value == "" && strings.HasPrefix(name, "IXMAGE_") {
			os.Unsetenv(name)
		}
	}
}

// readers make kong parse values with the functions below, which collect errors in
// s.errs: kong would stop at the first one.
func (s *serveCmd) readers() []kong.Option {
	return []kong.Option{
		reader(&s.errs, parseSize), reader(&s.errs, parseAmount), reader(&s.errs, parseDuration), reader(&s.errs, parseCount),
		reader(&s.errs, parseSwitch), reader(&s.errs, parsePatterns), reader(&s.errs, parseHostNames),
		reader(&s.errs, parseCIDRs), reader(&s.errs, parseWebURL), reader(&s.errs, parseTagKeys), reader(&s.errs, parseUsers),
		reader(&s.errs, parseRatio), reader(&s.errs, parseRolePatterns),
		reader(&s.errs, func(text string, _ *kong.Tag) (string, error) { return text, nil }),
	}
}

// reader parses the flags of type T.
func reader[T any](errs *configErrors, parse func(text string, tag *kong.Tag) (T, error)) kong.Option {
	decode := func(ctx *kong.DecodeContext, target reflect.Value) error {
		text, err := flagText(ctx)
		if err != nil {
			return err
		}
		// kong reads the command line first, into values that it copies to the fields at
		// the end. In between it reads variables and defaults into the fields, also for
		// flags on the command line. These must be ignored.
		flag := ctx.Value
		if flag.Set && target.Addr().Interface() == flag.Target.Addr().Interface() {
			return nil
		}
		value, err := parse(text, flag.Tag)
		*errs = slices.DeleteFunc(*errs, func(e configError) bool { return e.flag == flag.Name }) // the last one applies
		if err != nil {
			errs.addf(flag.Name, "%v", err)
		}
		target.Set(reflect.ValueOf(value))
		return nil
	}
	return kong.TypeMapper(reflect.TypeFor[T](), kong.MapperFunc(decode))
}

// flagText returns the text of a flag's value. kong treats an argument that begins with
// a dash as a flag, and stops; a negative number must reach the parse function, which
// reports it together with other errors.
func flagText(ctx *kong.DecodeContext) (string, error) {
	next := ctx.Scan.Peek()
	switch text := next.String(); {
	case next.Type == kong.FlagValueToken || len(text) > 1 && text[0] == '-' && '0' <= text[1] && text[1] <= '9':
		ctx.Scan.Pop()
		return text, nil
	case ctx.Value.IsBool():
		return "true", nil
	}
	value, err := ctx.Scan.PopValue(ctx.Value.Name)
	return value.String(), err
}

func parseRatio(text string, _ *kong.Tag) (float64, error) {
	r, err := strconv.ParseFloat(text, 64)
	if err != nil || !(r >= 0 && r <= 1) { // NaN is neither
		return 0, fmt.Errorf("%q is not a number from 0 to 1", text)
	}
	return r, nil
}

func parseSize(text string, _ *kong.Tag) (alias.Size, error) { return alias.ParseSize(text) }

// parseDuration reads Go's syntax of durations.
func parseDuration(text string, tag *kong.Tag) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d == 0 && tag.Get("min") == "0" {
		return 0, nil
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a duration above zero: use forms like 500ms, 30s or 1m30s", text)
	}
	return d, nil
}

// parseCount reads digits. The tag min is the least number; the default is 1.
func parseCount(text string, tag *kong.Tag) (int, error) {
	least, most := 1, 1<<24
	if tag.Has("min") {
		least, _ = strconv.Atoi(tag.Get("min"))
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", text, least, most)
	}
	return n, nil
}

// parseSwitch reads the value of --flag=true and IXMAGE_FLAG=1.
func parseSwitch(text string, _ *kong.Tag) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}

// patterns are bucket names with wildcards.
type patterns []string

func parsePatterns(text string, _ *kong.Tag) (patterns, error) {
	return parseList(text, policy.PatternProblem)
}

// tagKeys are keys of tags.
type tagKeys []string

func parseTagKeys(text string, _ *kong.Tag) (tagKeys, error) {
	return parseList(text, policy.TagKeyProblem)
}

// users are names of IAM users with wildcards.
type users []string

func parseUsers(text string, _ *kong.Tag) (users, error) {
	return parseList(text, policy.UserPatternProblem)
}

// rolePatterns are ARNs of roles with wildcards.
type rolePatterns []string

func parseRolePatterns(text string, _ *kong.Tag) (rolePatterns, error) {
	return parseList(text, policy.RolePatternProblem)
}

// cidrs are networks.
type cidrs []netip.Prefix

// parseCIDRs reads a list of networks and addresses.
func parseCIDRs(text string, _ *kong.Tag) (cidrs, error) {
	parts, err := parseList(text, func(entry string) string {
		if _, err := parseCIDR(entry); err != nil {
			return "is neither an address nor a CIDR: use forms like 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
		}
		return ""
	})
	list := make(cidrs, 0, len(parts))
	for _, part := range parts {
		p, _ := parseCIDR(part) // checked above
		list = append(list, p)
	}
	return list, err
}

func parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var addr netip.Addr
		if addr, err = netip.ParseAddr(text); err == nil {
			p, err = addr.Unmap().WithZone("").Prefix(addr.Unmap().BitLen())
		}
	}
	if a := p.Addr(); err == nil && a.Is4In6() { // clients with IPv4 have no other form
		p, err = a.Unmap().Prefix(p.Bits() - 96)
	}
	return p.Masked(), err
}

// webURL is the URL of a web server, without a slash at its end.
type webURL string

func parseWebURL(text string, _ *kong.Tag) (webURL, error) {
	u, err := url.Parse(text)
	if text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return "", fmt.Errorf("%q is not the URL of a web server: use a form like https://images.example.com", text)
	}
	return webURL(strings.TrimRight(text, "/")), nil
}

// hostNames are names that a listener answers for.
type hostNames []string

func parseHostNames(text string, _ *kong.Tag) (hostNames, error) {
	return parseList(text, admin.HostProblem)
}

// parseList reads a list separated by commas.
func parseList(text string, problem func(entry string) string) ([]string, error) {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if p := problem(part); p != "" {
			return nil, fmt.Errorf("%q %s", part, p)
		}
		list = append(list, part)
	}
	return list, nil
}
