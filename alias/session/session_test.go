package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

// away is an STS that cannot answer.
func away(int) (status int, code, message string) {
	return http.StatusServiceUnavailable, "ServiceUnavailable", "try later"
}

// All requests for a cold alias share one call.
func TestRetrieveSharesACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		hold := make(chan struct{})
		e.sts.hold = hold
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if keys, err := e.keys(e.route(1)); err != nil || keys.SessionToken != "token-1" {
					t.Errorf("%+v, %v", keys, err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if n := e.sts.count(); n != 1 {
			t.Errorf("%d calls of STS, want 1", n)
		}
	})
}

// A session is renewed in the background between half and three quarters of its life; until it
// ends no request waits, whatever STS does.
func TestRenewedAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		r := e.route(1)
		e.mustKeys(r)
		hold := make(chan struct{})
		e.sts.set(func(s *stubSTS) { s.hold = hold })
		began := time.Now()
		var renewed time.Duration
		for time.Since(began) < 50*time.Minute {
			elapse(10 * time.Second)
			at := time.Now()
			if keys := e.mustKeys(r); keys.SessionToken != "token-1" {
				t.Fatalf("keys %s while STS hangs", keys.SessionToken)
			}
			if waited := time.Since(at); waited != 0 {
				t.Fatalf("a request waited %s with a living session", waited)
			}
			synctest.Wait()
			if renewed == 0 && e.sts.count() > 1 {
				renewed = time.Since(began)
			}
		}
		if renewed < 30*time.Minute || renewed > 46*time.Minute {
			t.Errorf("renewal began after %s, want 30 to 45 minutes", renewed)
		}
		close(hold)
		e.sts.set(func(s *stubSTS) { s.hold = nil })
		elapse(time.Minute)
		e.mustKeys(r)
		synctest.Wait()
		if keys := e.mustKeys(r); keys.SessionToken == "token-1" {
			t.Error("the old keys sign after the renewal")
		}
	})
}

// While STS is away the session signs until its end, and STS is asked seldom; afterwards
// requests get an error at once during the pauses, and keys as soon as STS is back.
func TestSTSAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		r := e.route(1)
		e.mustKeys(r)
		e.sts.set(func(s *stubSTS) { s.answer = away })
		began, failed := time.Now(), time.Duration(0)
		for time.Since(began) < 70*time.Minute {
			elapse(time.Second)
			if _, err := e.keys(r); err != nil && failed == 0 {
				failed = time.Since(began)
			}
		}
		if failed < time.Hour-40*time.Second || failed > time.Hour {
			t.Errorf("the session ended after %s, want just before an hour", failed)
		}
		calls := e.sts.count()
		if most := 40*60/15 + 20; calls > most*attempts || calls < 20 {
			t.Errorf("%d calls of an STS that is away in 40 minutes, want at most %d", calls, most*attempts)
		}
		_, err := e.keys(r)
		if e := asError(err); e == nil || e.Field != "" || e.Outcome != outcomeError {
			t.Errorf("error %#v, want one without a field", err)
		}
		e.sts.set(func(s *stubSTS) { s.answer = nil })
		elapse(lastRetry * 3 / 2)
		e.mustKeys(r)
		if info, ok := e.Info(r); !ok || info.Err != nil || info.Expires.IsZero() {
			t.Errorf("%+v after STS is back", info)
		}
	})
}

// No request fails over fifty renewals with an STS that fails half of the time.
func TestRenewalsWithFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		r := e.route(1)
		e.mustKeys(r)
		e.sts.set(func(s *stubSTS) {
			s.answer = func(n int) (int, string, string) {
				if n%4 < 2 { // both attempts of a call
					return away(n)
				}
				return 0, "", ""
			}
		})
		requests := 0
		for e.outcomes.count("ok") < 51 {
			elapse(5 * time.Second)
			requests++
			if _, err := e.keys(r); err != nil {
				t.Fatalf("request %d: %v", requests, err)
			}
			synctest.Wait()
		}
		if n := e.outcomes.count("error"); n < 10 {
			t.Errorf("%d failures are too few for a test", n)
		}
	})
}

// No request fails over a hundred renewals of short sessions with an STS that fails half of the
// calls at random, so that some renewals fail many times in a row.
func TestShortSessionsWithFailures(t *testing.T) {
	t.Parallel()
	for _, life := range []time.Duration{10 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, nil)
			r, random := e.route(1), rand.New(rand.NewPCG(1, 2))
			e.sts.set(func(s *stubSTS) { s.life = life })
			e.mustKeys(r)
			e.sts.set(func(s *stubSTS) {
				s.answer = func(int) (int, string, string) {
					if random.IntN(2) == 0 {
						return http.StatusForbidden, "AccessDenied", "not now"
					}
					return 0, "", ""
				}
			})
			for requests := 0; e.outcomes.count("ok") < 101; requests++ {
				elapse(20 * time.Millisecond)
				if _, err := e.keys(r); err != nil {
					t.Fatalf("%s, request %d: %v", life, requests, err)
				}
				synctest.Wait()
			}
		})
	}
}

// Ten thousand aliases with one role, or with -short 2,000: STS is called no faster than the limit,
// and the renewals are spread over a quarter of the life.
func TestManyAliases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		aliases := 10_000
		if testing.Short() {
			aliases = 2_000
		}
		ask := func() {
			var wg sync.WaitGroup
			for n := range int64(aliases) {
				wg.Go(func() { e.mustKeys(e.route(n + 1)) })
			}
			wg.Wait()
		}
		ask()
		if n := e.sts.count(); n != aliases {
			t.Fatalf("%d calls for %d aliases", n, aliases)
		}
		if most := mostPerSecond(e.sts.times); most > callsPerSecond+callsAtOnce {
			t.Errorf("%d calls in a second", most)
		}
		cold := len(e.sts.times)
		for range 20 {
			elapse(3 * time.Minute)
			ask()
		}
		if most := mostPerSecond(e.sts.times[cold:]); most > callsPerSecond+callsAtOnce {
			t.Errorf("%d renewals in a second", most)
		}
		if n, next := e.Stats(); n != aliases || next <= 0 {
			t.Errorf("%d sessions, next expires in %s", n, next)
		}
		elapse(2 * time.Hour)
		if e.sweep(time.Now()); len(e.byID) != 0 {
			t.Errorf("%d sessions are kept after their end", len(e.byID))
		}
	})
}

func mostPerSecond(times []time.Time) int {
	slices.SortFunc(times, time.Time.Compare)
	most, from := 0, 0
	for i, at := range times {
		for at.Sub(times[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// S3 refuses the key of a session: it is renewed once for all requests, and not again when the
// next one is refused too.
func TestRenewRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		r := e.route(1)
		first := e.mustKeys(r)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if !e.Renew(context.Background(), r, first.AccessKeyID) {
					t.Error("not renewed")
				}
			})
		}
		wg.Wait()
		second := e.mustKeys(r)
		if e.sts.count() != 2 || second.AccessKeyID == first.AccessKeyID {
			t.Fatalf("%d calls, keys %s then %s", e.sts.count(), first.AccessKeyID, second.AccessKeyID)
		}
		if e.Renew(context.Background(), r, second.AccessKeyID) || e.sts.count() != 2 {
			t.Error("renewed again at once")
		}
		elapse(refusalPause)
		if !e.Renew(context.Background(), r, second.AccessKeyID) {
			t.Error("not renewed after the pause")
		}
		e.sts.set(func(s *stubSTS) { s.answer = away })
		elapse(refusalPause)
		third := e.mustKeys(r)
		if e.Renew(context.Background(), r, third.AccessKeyID) {
			t.Error("renewed without STS")
		}
		if keys := e.mustKeys(r); keys != third {
			t.Error("the session was lost though it lives")
		}
	})
}

// The life is that by the clock of STS, whatever the clock of this machine says.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-3 * time.Hour, -time.Minute, 0, time.Minute, 3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, nil)
			e.sts.skew = skew
			r := e.route(1)
			first := e.mustKeys(r)
			e.sts.set(func(s *stubSTS) { s.answer = away })
			elapse(59 * time.Minute)
			if keys, err := e.keys(r); err != nil || keys != first {
				t.Errorf("clock of STS off by %s: %v after 59 minutes", skew, err)
			}
			elapse(time.Minute)
			if _, err := e.keys(r); err == nil {
				t.Errorf("clock of STS off by %s: the session lives after an hour", skew)
			}
		})
	}
}

// A request that gives up ends its wait and not the call.
func TestWaiterGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		hold := make(chan struct{})
		e.sts.hold = hold
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := e.Provider(e.route(1)).Retrieve(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		close(hold)
		synctest.Wait()
		if e.mustKeys(e.route(1)); e.sts.count() != 1 {
			t.Errorf("%d calls", e.sts.count())
		}
	})
}

// Close ends calls and waits for them; later requests get an error.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		e.sts.hold = make(chan struct{})
		failed := make(chan error, 1)
		go func() {
			_, err := e.keys(e.route(1))
			failed <- err
		}()
		synctest.Wait()
		e.Close()
		if err := <-failed; err == nil {
			t.Error("keys after the end")
		}
		if _, err := e.keys(e.route(2)); !errors.Is(err, errClosed) {
			t.Errorf("error %v", err)
		}
	})
}

// Each alias, location and version has keys of its own, and none outlives what it is for.
func TestSessionsAreApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		seen := map[string]string{}
		use := func(what string, r alias.Route) string {
			key := e.mustKeys(r).AccessKeyID
			if other, ok := seen[key]; ok {
				t.Errorf("%s signs with the keys of %s", what, other)
			}
			seen[key] = what
			return key
		}
		one := e.route(1)
		first := use("alias 1", one)
		use("alias 2", e.route(2))
		moved := e.route(1)
		moved.Alias.Prefix = "elsewhere/"
		use("alias 1 at another prefix", moved)
		region := e.route(1)
		region.Alias.Region = "eu-central-1"
		use("alias 1 in another region", region)
		other := e.route(1)
		other.Alias.Bucket = "other-bucket"
		use("alias 1 in another bucket", other)
		next := e.route(1)
		next.Credential.Version = 2
		use("version 2", next)
		if again := e.mustKeys(one).AccessKeyID; again != first {
			t.Error("alias 1 has other keys than before")
		}
		e.KeepAlias(moved.Alias)
		if len(e.byID) != 2 {
			t.Errorf("%d sessions after the move, want those of alias 2 and of the new location", len(e.byID))
		}
		e.ForgetCredential(1, 2)
		e.ForgetAlias(2)
		if len(e.byID) != 0 {
			t.Errorf("%d sessions left", len(e.byID))
		}
	})
}

func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		e.mustKeys(e.route(1))
		e.sts.set(func(s *stubSTS) {
			s.answer = func(int) (int, string, string) { return 403, "AccessDenied", "the token token-1 own-secret" }
		})
		_, err := e.keys(e.route(2))
		text := e.log.String() + err.Error()
		for _, secret := range []string{"secret-1", "token-1", "own-secret"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s in %s", secret, text)
			}
		}
		if !strings.Contains(text, "session of a role") {
			t.Errorf("log %s", text)
		}
	})
}
