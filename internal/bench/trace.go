package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Sizes of the objects of a trace: log-normal, clamped.
const (
	sizeMu    = 10.4
	sizeSigma = 1.3
	sizeLeast = 500
	sizeMost  = 20_000_000
)

// traceSpec describes requests that are the same in every run: the popularity of the
// keys is Zipf's with exponent 0.9, the arrivals are a Poisson process.
type traceSpec struct {
	Keys     int
	Requests int
	// Rate is the number of requests per second. 0 sends the next request as soon as a
	// connection is free.
	Rate float64
	// Aborts is the share of requests whose client closes the connection somewhere in the
	// body.
	Aborts float64
	// Seed determines the order, the arrivals and the aborts, but not the sizes: two
	// traces over as many keys request the same objects.
	Seed uint64
}

const zipfExponent = 0.9

// traceRequest is one request of a trace.
type traceRequest struct {
	key int
	at  time.Duration // since the start
	// abortAt is the number of bytes of the body after which the client closes the
	// connection, or negative.
	abortAt int
}

// repeatable gives the same numbers in every run.
func repeatable(use, seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(use, seed)) //nolint:gosec // nobody may guess wrong here
}

// traceSizes are the sizes of the objects by key. A key's popularity falls with its
// number and does not depend on its size.
func traceSizes(keys int) []int {
	sizes := make([]int, keys)
	for i := range sizes {
		r := repeatable(1, uint64(i))
		n := math.Exp(sizeMu + sizeSigma*r.NormFloat64())
		sizes[i] = int(min(max(n, sizeLeast), sizeMost))
	}
	return sizes
}

// zipfShares is the share of requests that go to the first 1, 2, … keys.
func zipfShares(keys int) []float64 {
	shares := make([]float64, keys)
	sum := 0.0
	for i := range shares {
		sum += math.Pow(float64(i+1), -zipfExponent)
		shares[i] = sum
	}
	for i := range shares {
		shares[i] /= sum
	}
	return shares
}

// requests returns the requests in the order of their arrival.
func (s traceSpec) requests() []traceRequest {
	sizes, shares := traceSizes(s.Keys), zipfShares(s.Keys)
	r := repeatable(2, s.Seed)
	list := make([]traceRequest, s.Requests)
	var at time.Duration
	for i := range list {
		key, _ := slices.BinarySearchFunc(shares, r.Float64(), cmp.Compare[float64])
		list[i] = traceRequest{key: min(key, s.Keys-1), abortAt: -1}
		if s.Rate > 0 {
			at += time.Duration(r.ExpFloat64() / s.Rate * float64(time.Second))
			list[i].at = at
		}
		if r.Float64() < s.Aborts {
			list[i].abortAt = r.IntN(sizes[list[i].key])
		}
	}
	return list
}

// hotBytes is the size of the most popular objects that together get the share of the
// requests.
func (s traceSpec) hotBytes(share float64) int64 {
	sizes, shares := traceSizes(s.Keys), zipfShares(s.Keys)
	var sum int64
	for i, n := range sizes {
		sum += int64(n)
		if shares[i] >= share {
			break
		}
	}
	return sum
}

// traceKey names an object so that the origin needs no table.
func traceKey(id, size int) string { return fmt.Sprintf("t%d-%d.png", id, size) }

// parseTraceKey reads what traceKey wrote.
func parseTraceKey(key string) (id, size int, ok bool) {
	n, err := fmt.Sscanf(key, "t%d-%d.png", &id, &size)
	ok = err == nil && n == 2 && id >= 0 && size >= 0 && size <= sizeMost && key == traceKey(id, size)
	return id, size, ok
}

// Bodies of a trace's objects are parts of one sequence of blocks, each of which begins
// as a PNG file does: making 10 GB of distinct bodies would take longer than sending them.
const (
	blockSize = 64
	blocks    = 1 << 19 // 32 MiB of places where a body may begin
)

var traceBlocks = sync.OnceValue(func() []byte {
	all := make([]byte, blocks*blockSize+sizeMost)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(all) // it never fails
	for at := 0; at+blockSize <= len(all); at += blockSize {
		copy(all[at:], "\x89PNG\r\n\x1a\n")
	}
	return all
})

// traceBody is the body of an object. It must not be changed.
func traceBody(id, size int) []byte {
	at := int(uint64(id)*0x9e3779b97f4a7c15>>(64-19)) * blockSize
	return traceBlocks()[at : at+size]
}
