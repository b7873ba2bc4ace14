// Package trace makes sequences of requests by which caches are compared. A trace is the same
// every time.
package trace

import (
	"iter"
	"math"
	"math/rand/v2"
	"sort"
)

// Request is a request of an object. Size is always the same for a Key.
type Request struct {
	Key  uint64
	Size int64
}

// Kind says how the requests of a trace are distributed.
type Kind string

// In all kinds, Keys objects are requested by Zipf's law.
const (
	Zipf    Kind = "zipf"    // nothing else
	Wonders Kind = "wonders" // 35 % of the requests are for objects that have no other request
	Scans   Kind = "scans"   // half of the requests read 20,000 objects, one after the other
	Drift   Kind = "drift"   // every 200,000 requests, the most popular 5,000 objects are others
)

// Kinds are all of them.
var Kinds = []Kind{Zipf, Wonders, Scans, Drift}

// Keys is the number of objects that have more than one request.
const Keys = 200_000

const (
	skew       = 0.9 // the exponent of Zipf's law
	wonders    = 0.35
	scanLength = 20_000
	driftEvery = 200_000 // requests
	driftStep  = 5000    // objects

	// Sizes are log-normal.
	sizeMu    = 10.4
	sizeSigma = 1.3
	sizeMin   = 500
	sizeMax   = 20_000_000
)

// Requests returns the first n requests of a trace.
func Requests(k Kind, n int) iter.Seq[Request] {
	return func(yield func(Request) bool) {
		rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time
		rank, extra := zipf(), uint64(0)
		for i := range n {
			key := uint64(rank(rnd.Float64()))
			switch {
			case k == Wonders && rnd.Float64() < wonders:
				extra++
				key = Keys + extra
			case k == Scans && i/scanLength%2 == 1:
				extra++
				key = extra * 7919 % Keys // it meets all objects, popular or not
			case k == Drift:
				key = (key + uint64(i/driftEvery*driftStep)) % Keys
			}
			if !yield(Request{key, Size(key)}) {
				return
			}
		}
	}
}

// Size is the size of an object in bytes.
func Size(key uint64) int64 {
	rnd := rand.New(rand.NewPCG(key, 7)) //nolint:gosec // the same every time
	size := int64(math.Exp(sizeMu + sizeSigma*rnd.NormFloat64()))
	return min(max(size, sizeMin), sizeMax)
}

// zipf returns a function from uniform random numbers to ranks.
func zipf() func(float64) int {
	sums, sum := make([]float64, Keys), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -skew)
		sums[i] = sum
	}
	return func(p float64) int { return sort.SearchFloat64s(sums, p*sum) }
}
