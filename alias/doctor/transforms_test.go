package doctor

import (
	"errors"
	"strings"
	"testing"

	"ixmage/alias"
)

// TestTransforms: whether workers run, which aliases need them, and whether the memory suffices.
func TestTransforms(t *testing.T) {
	t.Parallel()
	running := Workers{Configured: true, Library: "8.18.7", Landlock: 7, Count: 2, Memory: 1 << 30, Beside: 384 << 20, Available: 4 << 30}
	failed := Workers{Configured: true, Err: errors.New("start /opt/ixmage-worker: permission denied")}
	with := func(mode alias.Transforms, templates map[string]string) func(*env) {
		return func(e *env) {
			e.open("shop", "acme-media", alias.CredentialRef{Anonymous: true}, func(a *alias.Alias) {
				a.Transforms, a.Templates = mode, templates
			})
		}
	}
	for _, tt := range []struct {
		name    string
		edit    func(*env)
		workers Workers
		state   FindingState
		says    []string
	}{
		{"on", nil, running, Good, []string{"are on", "8.18.7", "Landlock ABI 7", "2 workers of at most 1024 MiB each"}},
		{"memory is not known", nil, edited(running, func(w *Workers) { w.Available = 0 }), Good, nil},
		{"memory suffices exactly", nil, edited(running, func(w *Workers) { w.Available = 2<<30 + 384<<20 }), Good, nil},
		{
			"too little memory", nil, edited(running, func(w *Workers) { w.Available = 2<<30 + 383<<20 }), Warning,
			[]string{"384 MiB", "2432 MiB", "2431 MiB", "--transform-workers"},
		},
		{"not configured", nil, Workers{}, Good, []string{"off: it is not set"}},
		{"not configured, by default", with(alias.TransformsTemplates, nil), Workers{}, Good, []string{"aliases shop"}},
		{"not configured, off", with(alias.TransformsOff, map[string]string{"thumb": "w=9"}), Workers{}, Good, nil},
		{"not configured, templates", with(alias.TransformsTemplates, map[string]string{"thumb": "w=9"}), Workers{}, Warning, []string{"aliases shop", "make worker"}},
		{"not configured, open", with(alias.TransformsOpen, nil), Workers{}, Warning, []string{"aliases shop"}},
		{"not configured, signed", with(alias.TransformsSigned, nil), Workers{}, Warning, []string{"aliases shop"}},
		{"refused", with(alias.TransformsTemplates, nil), failed, Bad, []string{"/opt/ixmage-worker: permission denied; a query changes nothing for the aliases shop", "restart"}},
		{"refused, no alias", nil, failed, Bad, []string{"permission denied"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			if tt.edit != nil {
				tt.edit(e)
			}
			e.cfg.Workers = func() Workers { return tt.workers }
			r := e.examine()
			want(t, r, Transforms, tt.state, tt.says...)
			if found := r.of(Transforms); strings.HasSuffix(tt.name, ", off") && strings.Contains(found[0].Detail, "shop") {
				t.Errorf("an alias without transforms is named: %+v", found[0])
			}
		})
	}
	if got := newEnv(t).examine().of(Transforms); len(got) > 0 {
		t.Errorf("without workers to look at: got %+v", got)
	}
}

func edited(w Workers, edit func(*Workers)) Workers {
	edit(&w)
	return w
}
