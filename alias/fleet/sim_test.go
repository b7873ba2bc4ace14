package fleet

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// The simulations explore every order of the atomic steps of three nodes and one database, up to
// a bound. Time goes in ticks. A node that is paused, or whose network is cut, is one that takes
// no step while the clock goes on. The decisions are those of the package: heldUntil, before and
// behind. Those that are SQL are modelled; TestLeases checks them in PostgreSQL.
//
// Assumption: a request that was begun while Valid reported true has its effect within
// margin, one tick: the time of a lease divided by marginShare.
const (
	tick     = 5 * time.Second
	leaseTTL = marginShare * tick
	nodes    = 3
)

// instant is a time by a clock that differs from that of the database by an offset.
func instant(ticks, offset int8) time.Time {
	return time.Unix(1e9, 0).Add(time.Duration(ticks)*tick + time.Duration(offset)*time.Minute)
}

// ticks is the inverse of instant.
func ticks(at time.Time, offset int8) int8 { return int8(at.Sub(instant(0, offset)) / tick) }

// space is a set of states and the steps between them.
type space[S comparable] struct {
	start S
	// steps calls to with each state that can follow.
	steps func(s S, to func(step string, next S))
	// bad tells what is wrong in a state; empty for nothing.
	bad func(s S) string
}

// explore visits every state that can be reached, breadth first, and at most limit of them. It
// returns what is wrong in the first bad one, with the shortest way to it.
func (sp space[S]) explore(limit int) (visited int, wrong string, complete bool) {
	states, from, how := []S{sp.start}, []int32{-1}, []string{"start"}
	seen := map[S]struct{}{sp.start: {}}
	for i := 0; i < len(states); i++ {
		if what := sp.bad(states[i]); what != "" {
			var way []string
			for at := int32(i); at > 0; at = from[at] {
				way = append([]string{how[at]}, way...)
			}
			return len(states), fmt.Sprintf("%s after: %s\n%+v", what, strings.Join(way, "; "), states[i]), true
		}
		if len(states) >= limit {
			continue
		}
		sp.steps(states[i], func(step string, next S) {
			if _, known := seen[next]; !known {
				seen[next] = struct{}{}
				states, from, how = append(states, next), append(from, int32(i)), append(how, step)
			}
		})
	}
	return len(states), "", len(states) < limit
}

// simulate expects no bad state of the rules, and one of each mutant.
func simulate[S comparable, R any](t *testing.T, limit int, of func(rules R) space[S], rules R, mutants map[string]R) {
	t.Helper()
	t.Run("rules", func(t *testing.T) {
		n, wrong, complete := of(rules).explore(limit)
		if wrong != "" {
			t.Error(wrong)
		}
		if !complete {
			t.Errorf("more than %d states", limit)
		}
		t.Logf("%d states", n)
	})
	for name, mutant := range mutants {
		t.Run("without the rule/"+name, func(t *testing.T) {
			n, wrong, _ := of(mutant).explore(limit)
			if wrong == "" {
				t.Errorf("no bad state in %d", n)
			}
			t.Log(wrong)
		})
	}
}

var stepNames sync.Map // parallel tests share it

// by names a step of a node, without a new text for each.
func by(i int, step string) string {
	type key struct {
		node int
		step string
	}
	if name, ok := stepNames.Load(key{i, step}); ok {
		return name.(string)
	}
	name := string(rune('A'+i)) + " " + step
	stepNames.Store(key{i, step}, name)
	return name
}
