//go:build !linux

package arena

// memfile is for Linux only.
type memfile struct {
	fd   int
	size int64
	mem  []byte
}

func openMemfile(int64) *memfile     { return nil }
func (*memfile) populate(_, _ int64) {}
func (*memfile) punch(_, _ int64)    {}
func (*memfile) close()              {}
