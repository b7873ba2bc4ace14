package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"ixmage/alias"
)

// Backup is a copy of the registry. Its reader is closed once.
type Backup struct {
	io.ReadCloser

	Size int64
	// Keyset is the fingerprint of the key set that seals the secrets in the copy, and
	// KeysetPlace says where the server has it.
	Keyset, KeysetPlace string
}

// Backuper copies the registry.
type Backuper interface {
	// Backup makes a consistent copy while the registry is used.
	Backup(ctx context.Context) (*Backup, error)
}

// backups is the call that sends a copy of the registry.
type backups struct {
	backuper Backuper
	one      chan struct{} // has an element while a copy is made and sent: it takes as much space as the registry
}

const mediaSQLite = "application/vnd.sqlite3"

func (h backups) mount(t *routes) {
	mount(t, endpoint[none, none]{method: http.MethodGet, path: "/api/v1/backup", allBuckets: true,
		summary: "Copy the registry, as an SQLite file; the header X-Ixmage-Keyset names the key set of its secrets",
		roles:   []alias.TokenRole{}, media: mediaSQLite, sends: []parameter{
			{"X-Ixmage-Keyset", "the fingerprint of the key set that seals the secrets in the copy"},
			{"X-Ixmage-Keyset-Place", "where the server has that key set"},
			{"Content-Disposition", "a name for the file"},
		}, fails: []error{errNotImplemented, alias.ErrBusy}, do: h.copy})
}

func (h backups) copy(ctx context.Context, _ *call[none]) (reply[none], error) {
	if h.backuper == nil {
		return reply[none]{}, errNotImplemented
	}
	select {
	case h.one <- struct{}{}:
	default:
		return reply[none]{}, failf(alias.ErrBusy, "another backup is being sent; repeat this one when that has ended")
	}
	b, err := h.backuper.Backup(ctx)
	if err != nil {
		<-h.one
		return reply[none]{}, err
	}
	return reply[none]{write: func(x *exchange) error {
		end := sync.OnceFunc(func() {
			b.Close()
			<-h.one
		})
		defer end()
		return b.send(x, end)
	}}, nil
}

// send sends the copy in parts, of which a client must take each in time. It calls end before
// the last one: a client that has it may ask for the next backup at once.
func (b *Backup) send(x *exchange, end func()) error {
	h := x.Header()
	h.Set("Content-Type", mediaSQLite)
	h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	h.Set("Content-Disposition", `attachment; filename="registry.db"`)
	h.Set("X-Ixmage-Keyset", b.Keyset)
	h.Set("X-Ixmage-Keyset-Place", b.KeysetPlace)
	left := b.Size
	if x.rec.method == http.MethodHead {
		left = 0
		end()
	}
	if x.begin(http.StatusOK) != nil {
		return nil //nolint:nilerr // the client has left
	}
	for part := make([]byte, 128<<10); left > 0; {
		n, err := io.ReadFull(b, part[:min(left, int64(len(part)))])
		if err != nil {
			return fmt.Errorf("read the copy of the registry: %w", err)
		}
		if left -= int64(n); left == 0 {
			end()
		}
		if x.push(part[:n]) != nil {
			return nil //nolint:nilerr // the client has left
		}
	}
	return nil
}
