package admin

// Transforms says whether pictures can be transformed, and with what.
type Transforms struct {
	Configured bool  // whether a worker was named
	Err        error // why transforms are off; nil if they are on, or if no worker was named
	Workers    int
	Library    string // the version of libvips in the workers
	Landlock   int    // the version of Landlock that holds the workers
}

func (t Transforms) on() bool { return t.Configured && t.Err == nil }

// detail says that transforms are off; empty if they are on. It has no path and no text of a
// worker, because /-/readyz needs no token.
func (t Transforms) detail() string {
	switch {
	case !t.Configured:
		return "transforms are off: --transform-worker is not set"
	case t.Err != nil:
		return "transforms are off: no worker of --transform-worker runs in its sandbox, " +
			"and the log and ixmage doctor say why"
	}
	return ""
}

// transformState reads the state of transforms; nil: this listener does not know it.
type transformState func() Transforms

func (s transformState) detail() string {
	if s == nil {
		return ""
	}
	return s().detail()
}

// transformsJSON are Transforms as the API shows them.
type transformsJSON struct {
	On       bool   `json:"on" description:"Whether pictures are transformed. If not, a query changes nothing."`
	Workers  int    `json:"workers" description:"How many workers may be busy at once; 0 if transforms are off."`
	Libvips  string `json:"libvips" description:"The version of libvips in the workers; empty if transforms are off."`
	Landlock int    `json:"landlock" description:"The version of Landlock that holds the workers; 0 if transforms are off."`
	Detail   string `json:"detail" description:"Why transforms are off; empty if they are on."`
}

// show has the error of a worker only for principals of all buckets: it may name files.
func (s transformState) show(p *principal) *transformsJSON {
	if s == nil {
		return nil
	}
	t := s()
	if t.on() {
		return &transformsJSON{On: true, Workers: t.Workers, Libvips: t.Library, Landlock: t.Landlock}
	}
	out := &transformsJSON{Detail: t.detail()}
	if t.Err != nil && !p.restricted() {
		out.Detail = "transforms are off: " + t.Err.Error()
	}
	return out
}
