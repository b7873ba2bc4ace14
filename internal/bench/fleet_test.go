package main

import (
	"os"
	"strings"
	"testing"
)

// TestBalancerConfig: the configuration of deploy/fleet can be changed for every way, and a way that
// it does not have is refused.
func TestBalancerConfig(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../" + haproxyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []fleetWay{oneNode, roundRobin, unbounded, narrow, wide} {
		addrs := append([]string{"127.0.0.1:1"}, []string{"127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"}[:way.nodes]...)
		got, err := balancerConfig(string(text), way, addrs)
		if err != nil {
			t.Errorf("%s: %v", way.name, err)
			continue
		}
		for _, addr := range addrs {
			if strings.Count(got, addr+" ")+strings.Count(got, addr+"\n") != 1 {
				t.Errorf("%s: not once: %s", way.name, addr)
			}
		}
		if n := strings.Count(got, "\n    server node-"); n != way.nodes || strings.Contains(got, "192.0.2.") && way.nodes == fleetNodes || strings.Contains(got, " ssl ") {
			t.Errorf("%s: %d nodes in\n%s", way.name, n, got)
		}
	}
	if got, err := balancerConfig(string(text), fleetWay{"", fleetNodes, []string{"balance source", "balance first"}}, []string{"a", "b", "c", "d"}); err == nil {
		t.Errorf("a change of nothing is made:\n%s", got)
	}
}
