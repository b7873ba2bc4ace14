package admin

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// About is what operators may know about the server itself. It must hold no secret.
type About struct {
	Version string
	Node    string // the name of this node
	// PublicURL is the URL of the public listener for clients, without a slash at its end. If
	// it is empty, it is derived from the port of Public and the host of the request.
	PublicURL    string
	Public       net.Addr // of the public listener; nil: there is none
	AdminTLS     bool
	Provisioning bool
	StartedAt    time.Time
	Warnings     []string // of the start
}

// serverInfo is the call that describes the server.
type serverInfo struct {
	about      About
	registry   registryState
	transforms transformState
}

func (h serverInfo) mount(t *routes) {
	mount(t, endpoint[none, serverJSON]{method: http.MethodGet, path: "/api/v1/server",
		summary: "Read the version, the public URL and the warnings of the server", roles: anyToken, do: h.read})
}

// serverJSON is an About as the API shows it.
type serverJSON struct {
	Version      string   `json:"version" description:"The version of ixmage."`
	PublicURL    string   `json:"public_url" description:"The URL of the public listener for clients, without a slash at its end: --public-url, or derived from its port and the host of the request."`
	AdminTLS     bool     `json:"admin_tls" description:"Whether the admin listener has TLS."`
	Provisioning bool     `json:"provisioning" description:"Whether --provision is set."`
	StartedAt    string   `json:"started_at" description:"When the server was started."`
	Warnings     []string `json:"warnings" description:"The warnings of the start. A token with bucket patterns gets none."`
	Node         string   `json:"node,omitempty" description:"The name of this node."`
	// Registry is nil if the registry is not shared.
	Registry *registryJSON `json:"registry,omitempty" description:"How new the registry of this node is; absent without --store."`

	Transforms *transformsJSON `json:"transforms,omitempty" description:"Whether pictures are transformed, and with what."`
}

func (h serverInfo) read(_ context.Context, c *call[none]) (reply[serverJSON], error) {
	a := h.about
	if c.principal.restricted() { // a warning may name what belongs to others
		a.Warnings = nil
	}
	return reply[serverJSON]{body: serverJSON{
		Version: a.Version, PublicURL: cmp.Or(a.PublicURL, publicURL(a.Public, c.request.Host)), AdminTLS: a.AdminTLS,
		Provisioning: a.Provisioning, StartedAt: timestamp(a.StartedAt), Warnings: append([]string{}, a.Warnings...),
		Node: a.Node, Registry: h.registry.show(), Transforms: h.transforms.show(c.principal),
	}}, nil
}

// publicURL is the URL of a listener, which has no TLS of its own, for a client that reaches
// this machine under host. host may have a port.
func publicURL(listener net.Addr, host string) string {
	tcp, ok := listener.(*net.TCPAddr)
	if !ok {
		return ""
	}
	name := cmp.Or((&url.URL{Host: host}).Hostname(), "localhost")
	return "http://" + net.JoinHostPort(name, strconv.Itoa(tcp.Port))
}
