package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"iter"
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
	"ixmage/alias/admin"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
	"ixmage/alias/seal"
	"ixmage/proxy/origin"
)

const (
	defaultListen = ":8080"
	envToken      = "IXMAGE_ADMIN_TOKEN"
)

// serveCmd is the whole configuration. Values that have a form are read by
// types that keep what is wrong instead of failing, so that problems can name
// every mistake at once.
type serveCmd struct {
	Listen        string `default:":8080" help:"Public listener; port 0 picks one."`
	AdminListen   string `default:"127.0.0.1:8081" help:"Admin API; metrics too unless --metrics-listen is set."`
	MetricsListen string `help:"Metrics and health on a listener of their own." placeholder:"ADDR"`
	AdminTLSCert  string `name:"admin-tls-cert" help:"Certificate of the admin listener, PEM." placeholder:"FILE"`
	AdminTLSKey   string `name:"admin-tls-key" help:"Its private key, PEM." placeholder:"FILE"`
	AdminInsecure toggle `help:"Allow an admin address that is not loopback without TLS."`

	Data           string `default:"./ixmage-data" help:"Folder for the registry, the key set and the admin token; made 0700."`
	AdminTokenFile string `help:"Bearer token of the admin API; or the value itself in IXMAGE_ADMIN_TOKEN. Default: generated into <data>/admin-token." placeholder:"FILE"`
	MasterKey      string `help:"file:PATH or aws-kms://ARN. Default: generated into <data>/master.keyset." placeholder:"KEY"`

	CacheMemory    size `default:"256MiB" help:"Byte budget of the memory tier, everything counted; 0 stores nothing."`
	CacheObjectMax size `default:"32MiB" help:"A larger object is streamed past the cache."`

	AllowPrivateEndpoints toggle `help:"Custom S3 endpoints may be plain http and resolve to loopback or private addresses; link-local and metadata addresses never."`

	OriginConnectTimeout   duration `default:"2s" help:"Longest wait for a connection to S3."`
	OriginFirstByteTimeout duration `default:"3.5s" help:"Longest wait for the headers of one reply of S3."`
	OriginCallTimeout      duration `default:"8s" help:"Longest wait for the headers with all retries, and for the first bytes."`
	OriginIdleTimeout      duration `default:"10s" help:"Longest wait for the next 4 KiB of a body from S3, or its rest."`
	OriginQueueTimeout     duration `default:"5s" help:"Longest wait for one of the requests to S3 to end when all are taken."`
	OriginConcurrency      count    `default:"256" help:"Requests to S3 at a time."`
	OriginAliasConcurrency count    `default:"64" help:"Requests to S3 at a time for one alias."`
	OriginQueue            count    `default:"1024" help:"Requests that may wait for S3; more are answered 503."`
	BreakerFailures        number   `default:"10" help:"Failures in a row, each of another object, after which S3 is not asked for a moment; counted per credential and endpoint; 0 for never."`
	BreakerOpen            duration `default:"5s" help:"How long that is, until one request is sent to see; longer each time that it fails, up to 8 s."`

	UsageFlush duration `default:"15s" help:"How often what was counted per alias is stored; a crash loses as much at most."`

	ShutdownTimeout duration `default:"30s" help:"How long listeners drain after SIGTERM."`
	MetricsAliasCap count    `default:"1000" help:"Aliases with series of their own; the others count as _other."`
	LogFormat       string   `default:"text" help:"text or json."`
	LogLevel        string   `default:"info" help:"debug, info, warn or error."`

	provisionFlags

	cert  *tls.Certificate // loaded by problems
	token alias.Secret     // read by problems, if one was given
}

// complaints gather what is wrong, each with its flag and what would be right.
type complaints []string

func (m *complaints) addf(flag, format string, args ...any) {
	*m = append(*m, fmt.Sprintf("--%s (%s): %s", flag, envName(flag), fmt.Sprintf(format, args...)))
}

// problems lists every mistake of the configuration.
func (s *serveCmd) problems() []string {
	var m complaints
	for f, v := range settings(reflect.ValueOf(s).Elem()) {
		if p, ok := reflect.TypeAssert[interface{ problem() string }](v.Addr()); ok && p.problem() != "" {
			m.addf(flagName(f), "%s", p.problem())
		}
	}
	s.checkAddrs(&m)
	s.checkTLS(&m)
	s.checkSecrets(&m)
	s.provisionFlags.problems(&m)
	if s.Data == "" {
		m.addf("data", "is empty: name a folder")
	}
	if os.Getenv(envName("store")) != "" {
		m.addf("store", "is not in this version: the registry lies in the data folder; unset it")
	}
	if c := s.OriginConcurrency.n; s.OriginAliasConcurrency.n > c && c > 0 {
		m.addf("origin-alias-concurrency", "%d is more than --origin-concurrency %d", s.OriginAliasConcurrency.n, c)
	}
	if !slices.Contains([]string{"text", "json"}, s.LogFormat) {
		m.addf("log-format", "%q is neither text nor json", s.LogFormat)
	}
	if _, ok := levels[s.LogLevel]; !ok {
		m.addf("log-level", "%q is none of debug, info, warn, error", s.LogLevel)
	}
	return m
}

func (s *serveCmd) checkAddrs(m *complaints) {
	for _, l := range []struct{ flag, addr string }{
		{"listen", s.Listen}, {"admin-listen", s.AdminListen}, {"metrics-listen", s.MetricsListen},
	} {
		if l.addr == "" && l.flag == "metrics-listen" {
			continue
		}
		if checkAddr(l.addr) != nil {
			m.addf(l.flag, "%q is no address: use host:port, or :port for all interfaces", l.addr)
		}
	}
}

func (s *serveCmd) checkSecrets(m *complaints) {
	env := os.Getenv(envToken)
	var err error
	switch {
	case env != "":
		s.token, err = admin.EnvToken(env)
	case s.AdminTokenFile != "":
		s.token, err = admin.FileToken(s.AdminTokenFile)
	}
	if err != nil {
		m.addf("admin-token-file", "%v", err)
	}
	if env != "" && s.AdminTokenFile != "" {
		m.addf("admin-token-file", "%s is set too: use one of them", envToken)
	}
	if err := seal.ValidateMaster(s.MasterKey); err != nil {
		m.addf("master-key", "%v", err)
	}
}

// checkTLS loads the admin listener's certificate, and refuses to send the
// token in the clear over a network.
func (s *serveCmd) checkTLS(m *complaints) {
	switch {
	case s.AdminTLSCert != "" && s.AdminTLSKey != "":
		cert, err := tls.LoadX509KeyPair(s.AdminTLSCert, s.AdminTLSKey)
		if err != nil {
			m.addf("admin-tls-cert", "cannot be used with --admin-tls-key: %v", err)
			return
		}
		s.cert = &cert
	case s.AdminTLSCert != "":
		m.addf("admin-tls-key", "is missing: --admin-tls-cert needs it")
	case s.AdminTLSKey != "":
		m.addf("admin-tls-cert", "is missing: --admin-tls-key needs it")
	case !s.AdminInsecure.on && checkAddr(s.AdminListen) == nil && !isLoopback(s.AdminListen):
		m.addf("admin-listen", "%s is not a loopback address, and the token would be sent in the clear: "+
			"set --admin-tls-cert and --admin-tls-key, or --admin-insecure if something in front adds TLS", s.AdminListen)
	}
}

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

func (s *serveCmd) origin(log *slog.Logger, registry *alias.Registry, f *fallbacks) origin.Config {
	return origin.Config{
		Lookup: registry.Lookup, Fallback: f.tell,
		ConnectTimeout: s.OriginConnectTimeout.d, FirstByteTimeout: s.OriginFirstByteTimeout.d,
		CallTimeout: s.OriginCallTimeout.d, IdleTimeout: s.OriginIdleTimeout.d, QueueTimeout: s.OriginQueueTimeout.d,
		Concurrency: s.OriginConcurrency.n, AliasConcurrency: s.OriginAliasConcurrency.n, Queue: s.OriginQueue.n,
		BreakerFailures: s.BreakerFailures.n, BreakerOpen: s.BreakerOpen.d,
		AllowPrivateEndpoints: s.AllowPrivateEndpoints.on, Log: log,
	}
}

func (s *serveCmd) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: levels[s.LogLevel]}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// unknownEnv lists variables that look like settings and are none.
func (s *serveCmd) unknownEnv() []string {
	known := map[string]bool{envToken: true}
	for f := range settings(reflect.ValueOf(s).Elem()) {
		known[envName(flagName(f))] = true
	}
	var unknown []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "IXMAGE_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// dropEmptyEnv makes an empty variable as good as none: that is how a container
// or a unit file leaves a setting alone, and kong would take it for a value.
func dropEmptyEnv() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value == "" && strings.HasPrefix(name, "IXMAGE_") {
			os.Unsetenv(name)
		}
	}
}

// joinSigned makes "--flag=-5s" of the arguments "--flag" and "-5s". kong takes what
// begins with a dash for another flag and gives up at once; no flag of ours
// begins with a digit, and a number below zero is one mistake among others.
func joinSigned(args []string) []string {
	var joined []string
	for _, arg := range args {
		last := len(joined) - 1
		if last >= 0 && takesValue(joined[last]) && len(arg) > 1 && arg[0] == '-' && '0' <= arg[1] && arg[1] <= '9' {
			joined[last] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

func takesValue(arg string) bool {
	return len(arg) > 2 && strings.HasPrefix(arg, "--") && !strings.Contains(arg, "=")
}

// settings are the fields that are flags, those of embedded structs too.
func settings(v reflect.Value) iter.Seq2[reflect.StructField, reflect.Value] {
	return func(yield func(reflect.StructField, reflect.Value) bool) {
		for f, v := range v.Fields() {
			switch {
			case f.Anonymous:
				settings(v)(yield)
			case f.IsExported() && !yield(f, v):
				return
			}
		}
	}
}

func flagName(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	var b strings.Builder
	for i, r := range f.Name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

func envName(flag string) string {
	return "IXMAGE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

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
		if p := policy.PatternProblem(part); p != "" && v.bad == "" {
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

// size is a number of bytes.
type size struct {
	n   int64
	bad string
}

// UnmarshalText reads digits, alone or followed by KiB, MiB or GiB.
func (v *size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for suffix, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = d, n
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	*v = size{n: int64(n) * unit}
	if int64(n) > maxSize/unit {
		*v = size{n: maxSize + 1, bad: string(text)}
	} else if err != nil {
		v.bad = string(text)
	}
	return nil
}

// maxSize is more than any machine has, and far from the end of the numbers.
const maxSize = 1 << 44

func (v *size) problem() string {
	if v.bad == "" {
		return ""
	}
	if v.n > maxSize {
		return fmt.Sprintf("%q is too much: at most %dGiB", v.bad, maxSize>>30)
	}
	return fmt.Sprintf("%q is no size: use a number of bytes, or one with KiB, MiB or GiB, as in 256MiB", v.bad)
}

// duration is a time above zero.
type duration struct {
	d   time.Duration
	bad string
}

// UnmarshalText reads Go's syntax of durations.
func (v *duration) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*v = duration{d: d}
	if err != nil || d <= 0 {
		v.bad = string(text)
	}
	return nil
}

func (v *duration) problem() string {
	if v.bad == "" {
		return ""
	}
	return fmt.Sprintf("%q is no duration above zero: use forms like 500ms, 30s or 1m30s", v.bad)
}

// count is a number of things, at least one.
type count struct {
	n   int
	bad string
}

// UnmarshalText reads digits.
func (v *count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	*v = count{n: n}
	if err != nil || n < 1 || n > 1<<24 {
		v.bad = string(text)
	}
	return nil
}

func (v *count) problem() string {
	if v.bad == "" {
		return ""
	}
	return fmt.Sprintf("%q is not a whole number from 1 to %d", v.bad, 1<<24)
}

// toggle is a switch: --flag, --flag=true, IXMAGE_FLAG=1.
type toggle struct {
	on  bool
	bad string
}

// IsBool tells kong that the flag needs no value.
func (*toggle) IsBool() bool { return true }

// Decode reads a value if there is one.
func (v *toggle) Decode(ctx *kong.DecodeContext) error {
	*v = toggle{on: true}
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	text := fmt.Sprint(ctx.Scan.Pop().Value)
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
	case "0", "false", "no", "off", "":
		v.on = false
	default:
		v.bad = text
	}
	return nil
}

func (v *toggle) problem() string {
	if v.bad == "" {
		return ""
	}
	return fmt.Sprintf("%q is neither true nor false", v.bad)
}

// number is a number of things, which may be none.
type number struct{ count }

// UnmarshalText reads digits.
func (v *number) UnmarshalText(text []byte) error {
	if string(text) == "0" {
		*v = number{}
		return nil
	}
	return v.count.UnmarshalText(text)
}

func (v *number) problem() string {
	if v.bad == "" {
		return ""
	}
	return fmt.Sprintf("%q is not a whole number from 0 to %d", v.bad, 1<<24)
}
