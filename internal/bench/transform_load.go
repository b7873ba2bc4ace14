package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// runVariantHits compares hits of a variant with hits of an original that has the same bytes.
func (c config) runVariantHits(ctx context.Context, w io.Writer, e *env, o *photoOrigin) error {
	ours, err := e.startTransforming(ctx, c.binaries[0].path)
	if err != nil {
		return err
	}
	defer ours.stop()
	variant := ours.variantURL("hits.jpg", "webp")
	_, body, err := fetch(ctx, variant)
	if err != nil {
		return err
	}
	o.others["same.webp"] = body
	original := "http://" + ours.addr + "/" + freeAlias + "/same.webp"
	for _, url := range []string{variant, original} {
		if _, _, err := fetch(ctx, url); err != nil {
			return err
		}
	}
	var all samples
	first := map[string]map[int]float64{"variant": {}, "original": {}}
	for round := range c.rounds + 1 {
		for name, url := range map[string]string{"variant": variant, "original": original} {
			m, err := c.measure(ctx, ours, c.load(url))
			if err != nil {
				return err
			}
			if first[name][round], err = firstByte(ctx, url); err != nil {
				return err
			}
			m.server, m.size, m.round = name, len(body), round
			all = append(all, m)
			c.progress(m)
		}
	}
	fmt.Fprintf(w, "### Variants that are in the cache\n\nHits of a variant of %d bytes beside hits of an original "+
		"with the same bytes; %d rounds of %s, %d connections.\n\n", len(body), c.rounds+1, c.duration, c.connections)
	c.writeVariantHits(w, all, first)
	return nil
}

func (c config) writeVariantHits(w io.Writer, all samples, first map[string]map[int]float64) {
	size := all[0].size
	ratios := func(figure func(sample) float64) []float64 {
		return pairedRatios(all.series("variant", size, figure), all.series("original", size, figure))
	}
	fmt.Fprintln(w, "| hits of | requests/s | CPU µs/request | first byte, ms |\n|---|---|---|---|")
	for _, name := range []string{"variant", "original"} {
		row := func(figure func(sample) float64) spread { return spreadOf(values(all.series(name, size, figure))) }
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", name, row(rateOf).format("%.0f"), row(cpuOf).format("%.1f"),
			spreadOf(values(first[name])).format("%.3f"))
	}
	fmt.Fprintln(w, "\n"+ratioHeader)
	for _, r := range []struct {
		what   string
		values []float64
		goal   goal
	}{
		{"requests/s", ratios(rateOf), atLeast(0.95)},
		{"CPU/request", ratios(cpuOf), goal{}},
		{"first byte", pairedRatios(first["variant"], first["original"]), atMost(1.1)},
	} {
		c.goals.ratio(w, r.what+", variant / original", sizeName(size), ratio{r.values, r.goal})
	}
	fmt.Fprintln(w)
}

// firstByte is the median time until the header of an answer is there, in milliseconds.
func firstByte(ctx context.Context, url string) (float64, error) {
	var all []float64
	for range 200 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		all = append(all, float64(time.Since(began))/1e6)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return quantile(all, 0.5), nil
}

// crowd is the number of cold variants that are requested at once.
const crowd = 100

// runCrowd compares hits of originals without and with a crowd of requests for variants that
// are in no cache. Server, workers and load generator share two cores.
func (c config) runCrowd(ctx context.Context, w io.Writer, e *env) error {
	e.cores = strconv.Itoa(c.serverCPU) + "," + strconv.Itoa(c.clientCPU)
	defer func() { e.cores = "" }()
	ours, err := e.startTransforming(ctx, c.binaries[0].path)
	if err != nil {
		return err
	}
	defer ours.stop()
	hits := c.load("http://" + ours.addr + "/" + bucket + "/original.jpg")
	hits.cores, hits.duration = e.cores, max(c.duration, 4*time.Second)
	if _, _, err := fetch(ctx, hits.url); err != nil {
		return err
	}
	alone, among := make(map[int]float64), make(map[int]float64)
	slow := make(map[string][]float64)
	var made, refused int
	for round := range c.rounds + 1 {
		without, err := hits.run(ctx)
		if err != nil {
			return err
		}
		g := startCrowd(ctx, ours, round)
		with, err := hits.run(ctx)
		g.stop()
		if err == nil {
			err = g.err
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "round %d/%d  hits alone %.0f/s, among %d variants %.0f/s; %d made, %d refused\n",
			round, c.rounds, without.Rate(), crowd, with.Rate(), g.made.Load(), g.refused.Load())
		if round == 0 {
			continue
		}
		alone[round], among[round] = without.Rate(), with.Rate()
		slow["alone"] = append(slow["alone"], float64(without.P99)/1e6)
		slow["among"] = append(slow["among"], float64(with.P99)/1e6)
		made += int(g.made.Load())
		refused += int(g.refused.Load())
	}
	fmt.Fprintf(w, "### Hits of originals among cold variants\n\n%d rounds of %s on cores %s, for all of it. %d clients "+
		"request one variant to WebP after the other, which no cache has; after 503 they wait as Retry-After says. "+
		"%d variants were made, %d requests were answered with 503.\n\n",
		c.rounds, hits.duration, e.cores, crowd, made, refused)
	fmt.Fprintln(w, "| hits of originals | requests/s | p99 ms |\n|---|---|---|")
	for name, rates := range map[string]map[int]float64{"alone": alone, "among": among} {
		p99 := spreadOf(slow[name])
		fmt.Fprintf(w, "| %s | %s | %s |\n", name, spreadOf(values(rates)).format("%.0f"), p99.format("%.2f"))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, ratioHeader)
	c.goals.ratio(w, "requests/s, among variants / alone", "original", ratio{pairedRatios(among, alone), atLeast(0.9)})
	fmt.Fprintln(w)
	return nil
}

// variantCrowd requests cold variants until it is stopped.
type variantCrowd struct {
	cancel        context.CancelFunc
	done          sync.WaitGroup
	made, refused atomic.Int64
	mu            sync.Mutex // guards err
	err           error
}

func startCrowd(ctx context.Context, s *server, round int) *variantCrowd {
	ctx, cancel := context.WithCancel(ctx)
	g := &variantCrowd{cancel: cancel}
	for i := range crowd {
		g.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				g.get(ctx, s.variantURL(fmt.Sprintf("crowd-%d-%d-%d.jpg", round, i, n), "webp"))
			}
		})
	}
	return g
}

func (g *variantCrowd) stop() {
	g.cancel()
	g.done.Wait()
}

// get requests one variant until it is there.
func (g *variantCrowd) get(ctx context.Context, url string) {
	for ctx.Err() == nil {
		status, wait, err := statusOf(ctx, url)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && status == http.StatusOK:
			g.made.Add(1)
			return
		case err == nil && status == http.StatusServiceUnavailable:
			g.refused.Add(1)
		default:
			g.mu.Lock()
			g.err = fmt.Errorf("%s: status %d, error %w", url, status, err)
			g.mu.Unlock()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// statusOf requests url and reads the answer to its end. wait is its Retry-After, spread over a
// second.
func statusOf(ctx context.Context, url string) (status int, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return resp.StatusCode, time.Duration(seconds)*time.Second + rand.N(time.Second), err //nolint:gosec // it spreads
}
