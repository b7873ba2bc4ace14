package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/alias"
	"ixmage/alias/signature"
	"ixmage/cache"
	"ixmage/proxy/transform"
)

// ExplainedTransform says what the query of a URL asks for, and what the cache has of that.
type ExplainedTransform struct {
	Mode   string `json:"mode" description:"The alias's transforms: off, templates, signed or open."`
	Access string `json:"access" description:"The alias's access: open or signed."`
	Off    string `json:"off" description:"Why options change nothing; empty if they do."`

	Signature ExplainedSignature `json:"signature" description:"The signature of the URL."`
	Options   string             `json:"options" description:"The options as they are understood, those of the template included; empty: the stored picture is asked for."`
	Template  string             `json:"template" description:"The template that the URL names; empty: none."`
	Width     *ExplainedWidth    `json:"width" description:"The width, if it is rounded up to one of the alias's widths; else null."`
	Ignored   []string           `json:"ignored" description:"Parameters that ixmage does not know; they change nothing. 16 at most."`
	Format    string             `json:"format" description:"The format of the variant. Before it is stored, an automatic format is that of a still picture without transparency. Empty: no variant is asked for."`
	AsStored  bool               `json:"as_stored" description:"The stored picture is sent instead: it is of a type that is not transformed, an animation beyond the limits, or smaller than the result."`

	Cache        *ExplainedCache `json:"cache" description:"What the cache has of the variant; null: no variant is asked for."`
	KilledWorker bool            `json:"killed_worker" description:"The picture killed a worker in the last five minutes, and is not tried again."`
	LastFailure  *ExplainedJob   `json:"last_failure" description:"The newest failure to make the variant; it goes when that succeeds."`
}

// ExplainedSignature is the result of the check of a signature.
type ExplainedSignature struct {
	Needed  bool       `json:"needed" description:"Whether the URL is refused without a good signature."`
	State   string     `json:"state" description:"none (it is not checked), ok, missing, unknown_kid, bad or expired."`
	KID     string     `json:"kid" description:"The id of the key that has signed; empty unless the state is ok."`
	Expires *time.Time `json:"expires_at" description:"When the URL ends; null: never, or not known."`
}

// ExplainedWidth is a width that is rounded up.
type ExplainedWidth struct {
	Asked int `json:"asked" description:"The width that the URL asks for."`
	Used  int `json:"used" description:"The width that is used."`
}

// ExplainedJob is a variant that could not be made.
type ExplainedJob struct {
	At    time.Time `json:"at" description:"When it failed."`
	Error string    `json:"error" description:"Why."`
}

// asked is what a URL asks for, to be explained.
type asked struct {
	uri, accept []byte
	path        string // of the object in the alias
	now         time.Time
	probe       bool // S3 is asked
}

// explainQuery explains the query of a URL in the order in which a request is read: signature, then
// options. It returns nil if the object itself is the answer.
func (p *Proxy) explainQuery(e *Explanation, a *alias.Alias, u asked) (*variant, error) {
	t := &ExplainedTransform{
		Mode: string(a.Transforms), Access: string(a.Access), Off: p.transformsOff(a),
		Signature: ExplainedSignature{State: "none"},
	}
	e.Transform = t
	_, query, _ := bytes.Cut(u.uri, []byte{'?'})
	t.Ignored = append([]string{}, transform.UnknownNames(query)...)
	locked, free := a.Access == alias.AccessSigned, a.Transforms == alias.TransformsOpen
	if locked || t.Off == "" && !free && hasSignature(query) {
		until, kid, err := signature.Verify(p.keys.ready(a).keys, pathOf(u.uri), query, u.now)
		t.Signature = ExplainedSignature{Needed: locked || p.needsSignature(a, query), State: checkOutcome(err), KID: kid}
		if !until.IsZero() {
			until = until.UTC()
			t.Signature.Expires = &until
		}
		if err != nil {
			return nil, &unsignedError{err}
		}
		free = true
	}
	var o transform.Options
	var err error
	if t.Off == "" {
		o, err = wanted(a, query, free)
	}
	if _, unsigned := errors.AsType[*unsignedError](err); unsigned {
		t.Signature = ExplainedSignature{Needed: true, State: checkOutcome(err)}
	}
	if err != nil || o.IsZero() {
		return nil, err
	}
	return p.explainOptions(t, a, o, u), nil
}

// needsSignature reports whether the options of a query are refused without a signature.
func (p *Proxy) needsSignature(a *alias.Alias, query []byte) bool {
	_, err := wanted(a, query, a.Transforms == alias.TransformsOpen)
	_, unsigned := errors.AsType[*unsignedError](err)
	return unsigned
}

// transformsOff says why a query changes nothing for an alias; empty if it may.
func (p *Proxy) transformsOff(a *alias.Alias) string {
	switch {
	case p.transforms == nil:
		return "no worker runs on this server (--transform-worker); ixmage doctor says more"
	case a.Transforms == alias.TransformsOff:
		return "the alias's transforms are off"
	}
	return ""
}

// explainOptions explains options that are good.
func (p *Proxy) explainOptions(t *ExplainedTransform, a *alias.Alias, o transform.Options, u asked) *variant {
	_, query, _ := bytes.Cut(u.uri, []byte{'?'})
	given, info, _ := transform.Parse(query) // it was good a moment ago
	t.Template = info.Template
	var template transform.Options
	if t.Template != "" {
		template, _ = templateOf(a, t.Template, true)
	}
	if was, is := given.With(template).Width(), o.Width(); was != is {
		t.Width = &ExplainedWidth{was, is}
	}
	var accepts transform.Accepts
	if o.Negotiable() {
		accepts = p.accepted(u.accept)
	}
	format := o.Format(accepts, transform.Header{}, false)
	t.Options, t.Format = string(o.Append(nil, format)), format.String()
	if format == transform.Raw {
		t.Format = ""
	}
	return &variant{object: u.path, options: &o, accepts: accepts, name: nameVariant(o, accepts, p.transforms.Version())}
}

// explainVariant changes the explanation of an object into that of a variant of it.
func (p *Proxy) explainVariant(e *Explanation, a *alias.Alias, v *variant, now time.Time) {
	t := e.Transform
	key := v.key(a)
	view := p.cache.Inspect(key, now)
	t.Cache = explainView(view, now)
	t.KilledWorker = p.killedWorker(a, v, now)
	failure, failed := p.failures.of(key)
	if failed {
		t.LastFailure = &ExplainedJob{At: failure.at.UTC(), Error: failure.err.Error()}
	}
	if obj, ok := view.Meta.(*object); ok {
		t.Format = formatOf(obj)
	}
	if !p.decided(e, view, now) {
		e.undecided(failure, failed)
	}
	if mark := v.options.Mark(); mark != "" && e.Status == http.StatusNotFound {
		e.Remedy += " The watermark " + mark + " must be in the alias too."
	}
}

// decided sets the answer that what the cache has of a variant, the source or the workers decide, and
// reports whether one does.
func (p *Proxy) decided(e *Explanation, view cache.View, now time.Time) bool {
	t := e.Transform
	switch {
	case e.served(view, now):
	case view.Tier == cache.TierNegative && errors.Is(view.Err, errAsStored):
		t.AsStored, t.Format = true, ""
	case view.Tier == cache.TierNegative:
		e.answerError(view.Err)
	case e.Status != 0 && e.Status != http.StatusOK: // there is no source
	case e.undecoded():
		e.answerUndecoded()
	case t.KilledWorker:
		e.answerError(transform.ErrRemembered)
	case p.transforms.Err() != nil:
		e.answerError(transform.ErrOff)
	default:
		return false
	}
	return true
}

// undecodedTypes are those that no worker decodes. An image/heif may be an AVIF.
var undecodedTypes = []string{
	typeSVG, "image/x-icon", "image/vnd.microsoft.icon", "image/bmp", "image/tiff", "image/heic", "image/jxl",
}

// undecoded reports whether the object is known to be of a type that is never decoded.
func (e *Explanation) undecoded() bool {
	switch {
	case e.Cache.Memory != nil:
		return slices.Contains(undecodedTypes, e.Cache.Memory.ContentType)
	case e.Cache.Disk != nil:
		return slices.Contains(undecodedTypes, e.Cache.Disk.ContentType)
	}
	return e.Probe != nil && slices.Contains(undecodedTypes, e.Probe.ContentType)
}

// answerUndecoded sets the answer of an object that is never decoded: itself, but for a description.
func (e *Explanation) answerUndecoded() {
	t := e.Transform
	if t.Format == "" {
		e.answerError(&transform.RefusedError{Why: transform.Unsupported})
		return
	}
	t.AsStored, t.Format = true, ""
}

// undecided is the answer if the variant is not stored, and nothing is known to prevent it.
func (e *Explanation) undecided(last variantFailure, failed bool) {
	switch {
	case failed:
		e.Status, e.Remedy = 0, "The last attempt to make the variant failed at "+last.at.UTC().Format(time.RFC3339)+". "+
			remedyFor(problemOf(last.err), last.err)
	case e.Status == http.StatusOK:
		e.Status, e.Remedy = 0, remedyNoVariant
	}
}

func (e *Explanation) answerError(err error) {
	prob := problemOf(err)
	e.refuse(prob, remedyFor(prob, err))
}

// formatOf is the format of a stored variant; empty if it is no picture.
func formatOf(o *object) string {
	format, picture := bytes.CutPrefix(o.contentType, []byte("image/"))
	if !picture {
		return ""
	}
	return string(format)
}

// killedWorker reports whether the picture of a variant, or its watermark, is known to have killed a
// worker. A picture that is not in the cache is not known.
func (p *Proxy) killedWorker(a *alias.Alias, v *variant, now time.Time) bool {
	id := func(path string) string {
		if obj, ok := p.cache.Inspect(keyOf(a, path), now).Meta.(*object); ok {
			return obj.pictureID(path)
		}
		return ""
	}
	mark := ""
	if path := v.options.Mark(); path != "" {
		mark = id(path)
	}
	return p.transforms.KilledBy(a.ID, id(v.object), mark)
}

// variantFailures are the newest failures to make variants. It is safe for concurrent use.
type variantFailures struct {
	mu  sync.Mutex // guards all
	all *simplelru.LRU[cache.Key, variantFailure]
}

type variantFailure struct {
	at  time.Time
	err error
}

const maxVariantFailures = 1024

func newVariantFailures() *variantFailures {
	all, _ := simplelru.NewLRU[cache.Key, variantFailure](maxVariantFailures, nil) // only a size below 1 is an error
	return &variantFailures{all: all}
}

// note remembers the outcome of an attempt; nil is a success.
func (f *variantFailures) note(key cache.Key, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.all.Remove(key)
		return
	}
	f.all.Add(key, variantFailure{time.Now(), err})
}

func (f *variantFailures) of(key cache.Key) (variantFailure, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all.Peek(key)
}
