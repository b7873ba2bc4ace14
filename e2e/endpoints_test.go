package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// forbiddenHosts are addresses that no endpoint may have, in all spellings.
var forbiddenHosts = []string{
	"169.254.169.254", "169.254.169.254:80", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "169.254.170.2", "169.254.0.1",
	"100.100.100.200", "[::ffff:100.100.100.200]", "[fd00:ec2::254]", "[fd00:ec2::23]", "0.0.0.0", "0.0.0.0:9000", "[::]", "[::ffff:0.0.0.0]",
	"[fe80::1]", "[fe80::1%25lo]", "224.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.0.192",
	"[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::169.254.169.254]",
	"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "127.1", "2130706433", "0x7f.1", "0", "169.254.169.254.", "localhost.",
}

// privateHosts are addresses that need --allow-private-endpoints.
var privateHosts = []string{
	"127.0.0.1", "127.0.0.1:9000", "127.8.8.8", "[::1]", "[::1]:9000", "[::ffff:127.0.0.1]", "localhost", "localhost:9000", "LOCALHOST",
	"s3.localhost", "10.0.0.1", "172.16.0.1", "192.168.1.1", "[::ffff:10.0.0.1]", "[fc00::1]", "[fd12:3456::1]", "100.64.0.1", "198.18.0.1",
	"[2002:7f00:1::1]", "[64:ff9b::a00:1]",
}

// TestEndpointsRefused registers aliases with forbidden addresses. All are refused,
// for new aliases and for changes.
func TestEndpointsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		flag     string
		refused  []string
		accepted []string
	}{
		{
			"without the flag", "false",
			slices.Concat(urls("https://", forbiddenHosts), urls("https://", privateHosts), urls("http://", privateHosts), []string{"http://s3.example.com"}),
			[]string{"", "https://s3.example.com", "https://s3.example.com:9000", "https://localhost.example.com", "https://93.184.215.14", "https://[2606:2800::1]"},
		},
		{
			"with it", "true",
			slices.Concat(urls("https://", forbiddenHosts), urls("http://", forbiddenHosts)),
			slices.Concat(urls("http://", privateHosts), urls("https://", privateHosts), []string{"http://s3.example.com"}),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "--allow-private-endpoints="+tc.flag)
			fields := func(name, endpoint string) map[string]any {
				return map[string]any{"name": name, "bucket": "media", "region": "eu-west-1", "endpoint": endpoint, "credential": nil}
			}
			s.adminCall(http.MethodPost, "/api/v1/aliases", fields("moving", ""), http.StatusCreated)
			for i, endpoint := range tc.refused {
				for method, path := range map[string]string{http.MethodPost: "/api/v1/aliases", http.MethodPatch: "/api/v1/aliases/moving"} {
					body := fields(fmt.Sprintf("refused%d", i), endpoint)
					if method == http.MethodPatch {
						body = map[string]any{"endpoint": endpoint}
					}
					if r := s.api(method, path, body); r.StatusCode != http.StatusBadRequest || !strings.Contains(string(r.body), "endpoint") {
						t.Errorf("%s with endpoint %s: %s: %s", method, endpoint, r.Status, r.body)
					}
				}
			}
			for i, endpoint := range tc.accepted {
				s.adminCall(http.MethodPost, "/api/v1/aliases", fields(fmt.Sprintf("accepted%d", i), endpoint), http.StatusCreated)
			}
		})
	}
}

func urls(scheme string, hosts []string) []string {
	list := make([]string, len(hosts))
	for i, h := range hosts {
		list[i] = scheme + h
	}
	return list
}

// TestFlagTakenBack registers an alias at a private address and starts again without
// the flag: the server starts, and does not dial the address.
func TestFlagTakenBack(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.Put("media", "a.png", s3.Object{Body: png(100, "a.png"), ContentType: "image/png"})
	s := start(t)
	s.createOn("shop", fakeS3.URL, "media")
	g := &given{method: "get", want: whole(0), body: png(100, "a.png"), got: single(s.public, http.MethodGet, "/shop/a.png")}
	g.check(t)
	s.stop()
	s = startIn(t, s.data, "--allow-private-endpoints=false")
	before := fakeS3.Accepted()
	for _, method := range []string{"get", "head", "part"} {
		g := &given{method: method, want: fails(502, "origin-unreachable", 0, "")}
		g.got = g.ask(s.public, "/shop/a.png")
		g.check(t)
	}
	if fakeS3.Accepted() != before {
		t.Error("the address was dialed")
	}
}

// TestNamesOfForbiddenAddresses has names of S3 servers resolve to forbidden
// addresses. They are refused when they are dialed.
func TestNamesOfForbiddenAddresses(t *testing.T) {
	t.Parallel()
	names := map[string][]string{
		"private": {"127.0.0.1"}, "mapped": {"::ffff:127.0.0.1"},
		"metadata": {"169.254.169.254"}, "mapped-metadata": {"::ffff:169.254.169.254"},
		"alibaba": {"100.100.100.200"}, "aws6": {"fd00:ec2::254"}, "zero": {"0.0.0.0"}, "zero6": {"::"},
		"mixed": {"169.254.169.254", "0.0.0.0", "127.0.0.1"},
	}
	for _, tc := range []struct {
		flag, scheme string
		served       []string
	}{
		{"true", "http", []string{"private", "mapped", "mixed"}},
		{"false", "https", nil}, // plain http is refused as such
	} {
		t.Run("private endpoints "+tc.flag, func(t *testing.T) {
			t.Parallel()
			fakeS3 := s3.New(t)
			port := fakeS3.URL[strings.LastIndexByte(fakeS3.URL, ':'):]
			body := png(faultSize, "a.png")
			fakeS3.Put("media", "a.png", s3.Object{Body: body, ContentType: "image/png"})
			s := startWithNames(t, names, "--allow-private-endpoints="+tc.flag)
			for name := range names {
				s.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
					"name": name, "bucket": "media", "path_style": true, "credential": nil,
					"endpoint": tc.scheme + "://" + name + ".ixmage.test" + port,
				}, http.StatusCreated)
				want := fails(502, "origin-unreachable", 0, "")
				if slices.Contains(tc.served, name) {
					want = whole(0)
				}
				(&given{method: "get", want: want, body: body, got: single(s.public, http.MethodGet, "/"+name+"/a.png")}).check(t)
				if want.kind == isProblem {
					eventually(t, "the log tells why "+name+" was not asked", func() bool {
						return strings.Contains(lineOf(s.output(), "alias="+name+" "), "addresses")
					})
				}
			}
			if n := fakeS3.Total(); n != len(tc.served) {
				t.Errorf("S3 was asked %d times, want %d", n, len(tc.served))
			}
			if tc.served == nil && fakeS3.Accepted() != 0 {
				t.Errorf("%d connections were made", fakeS3.Accepted())
			}
		})
	}
}

// TestAddressWithoutPathStyle: no bucket can stand before an address, so such an endpoint
// gets the bucket in the path.
func TestAddressWithoutPathStyle(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.open("plain", "media", "web/", map[string]any{"path_style": false})
	s.put("a.png", s3.Object{Body: bytesOf(2000, "a")})
	wantPicture(t, s.get("/plain/a.png"), bytesOf(2000, "a"))
}
