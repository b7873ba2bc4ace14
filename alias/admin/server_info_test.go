package admin

import (
	"net"
	"testing"
)

func TestServerInfo(t *testing.T) {
	t.Parallel()
	public := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 8080}
	for _, c := range []struct {
		name  string
		about About
		host  string
		want  string
	}{
		{"nothing set", About{}, "localhost", `{"version":"","public_url":"","admin_tls":false,"provisioning":false,"started_at":"0001-01-01T00:00:00Z","warnings":[]}`},
		{"derived", About{Version: "v1", Public: public, AdminTLS: true, Provisioning: true, StartedAt: moment, Warnings: []string{"no boundary"}}, "localhost:8081",
			`{"version":"v1","public_url":"http://localhost:8080","admin_tls":true,"provisioning":true,"started_at":"` + momentText + `","warnings":["no boundary"]}`},
		{"derived from a host without a port", About{Public: public, StartedAt: moment}, "127.0.0.1",
			`{"version":"","public_url":"http://127.0.0.1:8080","admin_tls":false,"provisioning":false,"started_at":"` + momentText + `","warnings":[]}`},
		{"derived from IPv6", About{Public: public, StartedAt: moment}, "[::1]:8081",
			`{"version":"","public_url":"http://[::1]:8080","admin_tls":false,"provisioning":false,"started_at":"` + momentText + `","warnings":[]}`},
		{"configured", About{PublicURL: "https://images.example.com", Public: public, StartedAt: moment}, "localhost:8081",
			`{"version":"","public_url":"https://images.example.com","admin_tls":false,"provisioning":false,"started_at":"` + momentText + `","warnings":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(cfg *Config) { cfg.About = c.about })
			r := a.raw("GET /api/v1/server HTTP/1.1\r\nHost: "+c.host+"\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(200, "")
			if r.body != c.want+"\n" {
				t.Errorf("got %s\nwant %s", r.body, c.want)
			}
		})
	}
	if got := publicURL(public, ""); got != "http://localhost:8080" {
		t.Errorf("without a host: %s", got)
	}
}
