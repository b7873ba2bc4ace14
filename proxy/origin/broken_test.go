package origin

import (
	"context"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// torn panics when a secret is asked for, in the middle of a call.
type torn struct{ Secrets }

func (torn) Reveal(*alias.Credential) (alias.KeyPair, error) {
	panic("a secret that panics")
}

// A call that panics keeps neither its slot, nor its circuit if it was the probe.
func TestCallThatPanics(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*Origin, context.Context, Request) (*Object, error){
		opGet: (*Origin).Get, opHead: (*Origin).Head,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newBreakerKit(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.fail(t, r)
			k.s3.Hook(nil)
			k.probeNow(r.Route)
			good := k.clients.secrets
			k.clients.clear()
			k.clients.secrets = torn{good}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				_, _ = call(k.Origin, t.Context(), r)
			}()
			k.clients.secrets = good
			if _, err := k.read(t, r); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}
