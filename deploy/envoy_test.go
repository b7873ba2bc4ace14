package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	sigsyaml "sigs.k8s.io/yaml"

	// Types that the file names by URL.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

func envoyFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("fleet/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// loadEnvoy decodes a configuration as Envoy does: fields and types that Envoy does not have are
// refused, and so are values against the rules of its API.
func loadEnvoy(text string) (*bootstrap.Bootstrap, error) {
	json, err := sigsyaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	config := new(bootstrap.Bootstrap)
	if err := protojson.Unmarshal(json, config); err != nil {
		return nil, err
	}
	return config, validate(config)
}

// validate checks every message, also those that have their type by URL.
func validate(config proto.Message) error {
	return protorange.Range(config.ProtoReflect(), func(p protopath.Values) error {
		m, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if v, ok := m.Interface().(interface{ ValidateAll() error }); ok {
			return v.ValidateAll()
		}
		return nil
	})
}

// TestEnvoy: the file is valid, and says what docs/fleet.md promises. No Envoy runs it.
func TestEnvoy(t *testing.T) {
	t.Parallel()
	config, err := loadEnvoy(envoyFile(t))
	if err != nil {
		t.Fatal(err)
	}
	nodes, http := config.GetStaticResources().GetClusters()[0], connectionManager(t, config)
	route := http.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].GetRoute()
	check := nodes.GetHealthChecks()[0].GetHttpHealthCheck()
	key := route.GetHashPolicy()[0].GetHeader()
	for what, ok := range map[string]bool{
		"no interface for operators":      config.GetAdmin() == nil,
		"consistent hashing":              nodes.GetLbPolicy() == cluster.Cluster_RING_HASH,
		"bounded load":                    nodes.GetCommonLbConfig().GetConsistentHashingLbConfig().GetHashBalanceFactor().GetValue() == 200,
		"never a node that is not ready":  nodes.GetCommonLbConfig().GetHealthyPanicThreshold() != nil && nodes.GetCommonLbConfig().GetHealthyPanicThreshold().GetValue() == 0,
		"readiness":                       check.GetPath() == "/-/readyz",
		"an error of S3 ejects no node":   nodes.GetOutlierDetection().GetEnforcingConsecutive_5Xx().GetValue()+nodes.GetOutlierDetection().GetEnforcingConsecutiveGatewayFailure().GetValue() == 0 && nodes.GetOutlierDetection().GetEnforcingConsecutive_5Xx() != nil,
		"retries before the first byte":   route.GetRetryPolicy().GetRetryOn() == "connect-failure,refused-stream,reset",
		"retries on another node":         len(route.GetRetryPolicy().GetRetryHostPredicate()) == 1,
		"the cluster of the route":        route.GetCluster() == nodes.GetName() && nodes.GetLoadAssignment().GetClusterName() == nodes.GetName(),
		"three nodes":                     len(nodes.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()) == 3,
		"the client's path":               !http.GetNormalizePath().GetValue() && http.GetNormalizePath() != nil && !http.GetMergeSlashes(),
		"the address of the connection":   http.GetUseRemoteAddress().GetValue(),
		"no Forwarded of a client":        strings.Join(http.GetRouteConfig().GetRequestHeadersToRemove(), " ") == "forwarded",
		"no limit for the time of a body": route.GetTimeout() != nil && route.GetTimeout().AsDuration() == 0,
		"the hash of the path":            key.GetHeaderName() == ":path",
		"connections end before ours":     nodes.TypedExtensionProtocolOptions != nil,
		"TLS":                             config.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetTransportSocket() != nil,
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	rewrite := key.GetRegexRewrite() // RE2, as in Go
	pattern := regexp.MustCompile(rewrite.GetPattern().GetRegex())
	for path, want := range map[string]string{
		"/shop/a.png": "/shop/a.png", "/shop/a.png?": "/shop/a.png", "/shop/a.png?v=1&w=2?3": "/shop/a.png", "/shop/%3Fa.png": "/shop/%3Fa.png",
	} {
		if got := pattern.ReplaceAllString(path, rewrite.GetSubstitution()); got != want {
			t.Errorf("%s is hashed as %s, want %s", path, got, want)
		}
	}
}

func connectionManager(t *testing.T, config *bootstrap.Bootstrap) *manager.HttpConnectionManager {
	t.Helper()
	m := new(manager.HttpConnectionManager)
	if err := config.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEnvoyRefuses: the check of the file above finds wrong names and wrong values, also within
// the types that are named by URL.
func TestEnvoyRefuses(t *testing.T) {
	t.Parallel()
	for old, other := range map[string]string{
		"hash_balance_factor: 200":         "hash_balance_factor: 99",
		"lb_policy: RING_HASH":             "lb_policy: HASH",
		"healthy_panic_threshold":          "panic_threshold",
		"path: /-/readyz":                  "path: ''",
		"merge_slashes: false":             "merge_slash: false",
		"stat_prefix: pictures":            "stat_prefix: ''",
		"header_name: \":path\"":           "header_name: ''",
		"idle_timeout: 60s":                "idle_timeout: 60",
		"http.router.v3.Router":            "http.router.v3.Routers",
		"max_ejection_percent: 50":         "max_ejection_percent: 150",
		"minimum_ring_size: 4096":          "minimum_ring_size: 9000000",
		"explicit_http_config: {":          "explicit_http: {",
		"alpn_protocols: [h2, http/1.1]":   "alpn: [h2]",
		"base_interval: 0.005s":            "base_interval: 0s",
		"previous_hosts.v3.PreviousHostsP": "previous_hosts.v2.PreviousHostsP",
	} {
		text := strings.Replace(envoyFile(t), old, other, 1)
		if _, err := loadEnvoy(text); text == envoyFile(t) || err == nil {
			t.Errorf("a configuration with %q is taken", other)
		}
	}
}
