package canary

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

func TestCanaryRefused(t *testing.T) {
	t.Parallel()
	const before = "403 AccessDenied"
	for _, tt := range []struct {
		name, first, answer  string
		want, ok, known, red bool
	}{
		{name: "readable", answer: "200", ok: true, known: true},
		{name: "empty object", answer: "416 InvalidRange", ok: true, known: true},
		{name: "refused", answer: "403 AccessDenied", want: true, known: true, red: true},
		{name: "refused without a code", answer: "403", want: true, known: true, red: true},
		{name: "refused to list only", answer: "403 AccessDenied User: u is not authorized to perform: s3:ListBucket on resource: x", known: true, red: true},
		{name: "refused to decrypt", answer: "403 AccessDenied User: u is not authorized to perform: kms:Decrypt on resource: x", want: true, known: true, red: true},
		{name: "KMS key is disabled", answer: "400 KMS.DisabledException", want: true, known: true, red: true},
		{name: "no bucket", answer: "404 NoSuchBucket", want: true, known: true, red: true},
		{name: "no object", first: before, answer: "404 NoSuchKey", known: true, red: true},
		{name: "readable again", first: before, answer: "200", ok: true, known: true},
		{name: "key is not known", answer: "403 InvalidAccessKeyId", known: true, red: true},
		{name: "key is not known, refused before", first: before, answer: "403 InvalidAccessKeyId", want: true, known: true, red: true},
		{name: "S3 fails", answer: "500 InternalError", red: true},
		{name: "S3 fails, refused before", first: before, answer: "503 SlowDown", want: true, known: true, red: true},
		{name: "S3 is silent", answer: "", red: true},
		{name: "S3 is silent, refused before", first: before, answer: "", want: true, known: true, red: true},
		{name: "S3 is silent, readable before", first: "200", answer: "", ok: true, known: true, red: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newEnv(t, Config{Timeout: time.Second})
				r := a.add(1, nil)
				if tt.first != "" {
					a.says(tt.first)
					a.Refused(t.Context(), r)
					pass(t, time.Minute)
				}
				a.says(tt.answer)
				start := time.Now()
				if got := a.Refused(t.Context(), r); got != tt.want {
					t.Errorf("refused %t, want %t", got, tt.want)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("took %s", took)
				}
				ok, _, known := a.State(1)
				if ok != tt.ok || known != tt.known {
					t.Errorf("state %t, known %t, want %t, %t", ok, known, tt.ok, tt.known)
				}
				if results := a.recorded["a1"]; results[len(results)-1] == tt.red {
					t.Errorf("recorded %v", results)
				}
				if strings.Contains(a.log.String(), "authorized") || strings.Contains(a.log.String(), "s3cr3t") {
					t.Errorf("log has words of the server or a secret: %s", &a.log)
				}
			})
		})
	}
}

func TestCanaryAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{})
		r := a.add(1, func(al *alias.Alias, _ *alias.Credential) { al.BucketOwner = "123456789012" })
		a.Refused(t.Context(), r)
		req := a.asked[0]
		if req.URL.Path != "/media/shop/canary.png" || req.Header.Get("Range") != "bytes=0-0" ||
			req.Header.Get("X-Amz-Expected-Bucket-Owner") != "123456789012" {
			t.Errorf("asked for %s with %v", req.URL.Path, req.Header)
		}
		none := a.add(2, func(al *alias.Alias, _ *alias.Credential) { al.Canary = "" })
		a.says("403 AccessDenied")
		if a.Refused(t.Context(), none) || a.total() != 1 {
			t.Error("an alias without a canary was asked about")
		}
		a.broken = errors.New("no key set")
		if a.Refused(t.Context(), a.add(3, nil)) {
			t.Error("refused without a client")
		}
	})
}

func TestCanaryFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Fresh: 5 * time.Second})
		r := a.add(1, nil)
		for _, tt := range []struct {
			after  time.Duration
			answer string
			want   bool
			reads  int
		}{
			{0, "403 AccessDenied", true, 1},
			{4 * time.Second, "200", true, 1},
			{time.Second, "200", false, 2},
			{time.Second, "403 AccessDenied", false, 2},
			{4 * time.Second, "500 InternalError", false, 3},
			{time.Second, "403 AccessDenied", false, 3}, // a failing S3 is not asked at every turn either
			{5 * time.Second, "403 AccessDenied", true, 4},
		} {
			pass(t, tt.after)
			a.says(tt.answer)
			if got := a.Refused(t.Context(), r); got != tt.want || a.total() != tt.reads {
				t.Errorf("after %s: refused %t with %d reads, want %t with %d", tt.after, got, a.total(), tt.want, tt.reads)
			}
		}
	})
}

func TestCanaryHerd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Timeout: 3 * time.Second})
		a.answer, a.takes = "403 AccessDenied", time.Second
		r := a.add(1, nil)
		var asking sync.WaitGroup
		for range 1000 {
			asking.Go(func() {
				if !a.Refused(t.Context(), r) {
					t.Error("not refused")
				}
			})
		}
		// One goes away and does not take the reading along.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		if a.Refused(ctx, r) || time.Since(start) != time.Millisecond {
			t.Error("a caller that left got an answer")
		}
		asking.Wait()
		if a.total() != 1 || time.Since(start) != time.Second {
			t.Errorf("%d reads in %s", a.total(), time.Since(start))
		}
	})
}

func TestCanarySubject(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*alias.Alias, *alias.Credential){
		"rotated":         func(_ *alias.Alias, c *alias.Credential) { c.Version++ },
		"another key":     func(a *alias.Alias, c *alias.Credential) { c.ID++; a.Revision++ },
		"moved":           func(a *alias.Alias, _ *alias.Credential) { a.Epoch++; a.Revision++ },
		"another canary":  func(a *alias.Alias, _ *alias.Credential) { a.Canary = "b.png"; a.Revision++ },
		"another owner":   func(a *alias.Alias, _ *alias.Credential) { a.BucketOwner = "123456789012"; a.Revision++ },
		"another address": func(a *alias.Alias, _ *alias.Credential) { a.PathStyle = true; a.Revision++ },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newEnv(t, Config{})
				old := a.add(1, nil)
				a.says("403 AccessDenied")
				if !a.Refused(t.Context(), old) {
					t.Fatal("not refused")
				}
				changed := a.add(1, change)
				if _, _, known := a.State(1); known {
					t.Error("the old result speaks for the new subject")
				}
				a.says("200")
				if a.Refused(t.Context(), changed) {
					t.Error("the old result is believed")
				}
				if ok, _, known := a.State(1); !ok || !known {
					t.Error("the new result is not known")
				}
				// A request from before the change does not read with the old key.
				if a.Refused(t.Context(), old); a.total() != 2 {
					t.Errorf("%d reads, want 2", a.total())
				}
				if ok, _, known := a.State(1); !ok || !known {
					t.Error("an old request made the new result unknown")
				}
			})
		})
	}
}

// TestCanaryLate has a result come in when the alias has changed: nobody hears
// of it who asks about the new one.
func TestCanaryLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{})
		a.answer, a.takes = "403 AccessDenied", time.Second
		old := a.add(1, nil)
		var asking sync.WaitGroup
		asking.Go(func() { a.Refused(t.Context(), old) })
		synctest.Wait()
		a.add(1, func(_ *alias.Alias, c *alias.Credential) { c.Version = 2 })
		a.mu.Lock()
		a.answer = "200"
		changed := a.routes[1]
		a.mu.Unlock()
		if a.Refused(t.Context(), changed) {
			t.Error("the old result is believed")
		}
		asking.Wait()
		if got := a.recorded["a1"]; !slices.Equal(got, []bool{true}) {
			t.Errorf("recorded %v, want the new result only", got)
		}
		a.Forget(1)
		if _, _, known := a.State(1); known {
			t.Error("known after Forget")
		}
		// Forgotten while it is read.
		asking.Go(func() { a.Refused(t.Context(), changed) })
		synctest.Wait()
		a.Forget(1)
		asking.Wait()
		if _, _, known := a.State(1); known || len(a.recorded["a1"]) != 1 {
			t.Errorf("known %t after Forget, recorded %v", known, a.recorded)
		}
	})
}

func TestCanaryLogsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newEnv(t, Config{Fresh: time.Second})
		r := a.add(1, nil)
		for _, answer := range []string{"200", "200", "403 AccessDenied", "403 AccessDenied", "500 InternalError", "403 AccessDenied", "200"} {
			a.says(answer)
			a.Refused(t.Context(), r)
			pass(t, time.Minute)
		}
		text := a.log.String()
		if strings.Count(text, "\n") != 2 || strings.Count(text, "canary cannot be read") != 1 || strings.Count(text, "can be read again") != 1 {
			t.Errorf("log: %s", text)
		}
		if want := []bool{true, true, false, false, false, false, true}; !slices.Equal(a.recorded["a1"], want) {
			t.Errorf("recorded %v, want %v", a.recorded["a1"], want)
		}
	})
}
