package alias

// Fallback names the objects of an alias that are served instead of an error,
// as paths after the prefix; "" means none.
type Fallback struct {
	Missing string // for 404: there is no such picture
	Broken  string // for 502, 503 and 504: S3 cannot be asked
}

// fallbackProblems name the field as it may be written: one path for both.
func (a *Alias) fallbackProblems() []Problem {
	f := a.Fallback
	if f.Missing == f.Broken {
		return a.optionalPathProblems("fallback", f.Missing)
	}
	return append(a.optionalPathProblems("fallback.missing", f.Missing),
		a.optionalPathProblems("fallback.broken", f.Broken)...)
}
