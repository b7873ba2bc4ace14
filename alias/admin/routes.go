package admin

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// handler answers a request, or returns an error.
type handler func(x *exchange, r *http.Request) error

// routes are the calls of a listener. ServeMux matches them. It would redirect some
// paths, and answer 404 or 405 in plain text; routes answer with a problem instead.
type routes struct {
	mux     *http.ServeMux
	methods map[string][]string // by path
	calls   []description       // of the API
}

func newRoutes() *routes {
	t := &routes{mux: http.NewServeMux(), methods: make(map[string][]string)}
	t.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.(*exchange).fail(t.noRoute(r.URL.Path)) })
	return t
}

// add routes a method of a path to h; GET stands for HEAD too.
func (t *routes) add(method, path string, h handler) {
	if _, known := t.methods[path]; !known {
		t.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { // for all other methods
			w.(*exchange).fail(&failure{
				kind: errMethod, header: map[string]string{"Allow": strings.Join(t.allowed(path), ", ")},
			})
		})
	}
	t.methods[path] = append(t.methods[path], method)
	t.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange)
		x.rec.route = path
		if err := h(x, r); err != nil {
			x.fail(err)
		}
	})
}

// allowed lists the methods of a path, in the order of methods.
func (t *routes) allowed(path string) []string {
	var list []string
	for _, m := range methods {
		if slices.Contains(t.methods[path], m) || m == http.MethodHead && slices.Contains(t.methods[path], http.MethodGet) {
			list = append(list, m)
		}
	}
	return list
}

// noRoute returns the error for an unknown path. Outside the API the error names the
// paths that an operator needs first, if this listener has them.
func (t *routes) noRoute(path string) error {
	var known []string
	for _, p := range []string{aliasesPath, metricsPath} {
		if _, ok := t.methods[p]; ok {
			known = append(known, p)
		}
	}
	if isAPI(path) || len(known) == 0 {
		return errNoRoute
	}
	return failf(errNoRoute, "there is no such path on this listener; try %s", strings.Join(known, " or "))
}

// serve answers a request whose URL has the raw path. ServeMux would redirect a path
// with an empty segment or a dot segment; such a path is unknown here.
func (t *routes) serve(x *exchange, r *http.Request) {
	p := r.URL.Path
	if clean := path.Clean(p); !strings.HasPrefix(p, "/") || p != clean && (clean == "/" || p != clean+"/") {
		x.fail(t.noRoute(p))
		return
	}
	t.mux.ServeHTTP(x, r)
}
