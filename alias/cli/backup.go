package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"ixmage/alias/client"
	"ixmage/internal/durable"
)

type backupCmd struct {
	Connection

	File  string `arg:"" help:"File to make; - is the standard output." completion:"files"`
	Force bool   `help:"Replace the file if it exists."`
}

func (*backupCmd) Examples() []string {
	return []string{
		"ixmage backup registry-backup.db",
		"ixmage backup - | gzip > registry-backup.db.gz",
	}
}

func (c *backupCmd) Run(s *session) error {
	if c.File == "-" && s.term.shows {
		return usagef("the backup is a binary file: name a file, or redirect the output")
	}
	if c.File != "-" && !c.Force {
		if _, err := os.Lstat(c.File); err == nil {
			return usagef("%s exists: name another file, or add --force to replace it", c.File)
		}
	}
	api, err := s.api()
	if err != nil {
		return err
	}
	resp, err := api.Stream(s.ctx, client.Request{Path: client.Path("backup")})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if c.File == "-" {
		err = s.pipe(resp)
	} else {
		err = c.write(s, resp)
	}
	if err != nil {
		return err
	}
	s.term.sayf("The secrets in it are sealed. To restore it you need the key set with the fingerprint %s, "+
		"which the server has in %s: keep a copy of that too, in another place.",
		resp.Header.Get("X-Ixmage-Keyset"), resp.Header.Get("X-Ixmage-Keyset-Place"))
	if c.File != "-" {
		s.term.sayf("To restore it, stop the server and run: ixmage restore %s --data DIR", c.File)
	}
	return nil
}

// write makes the file whole or not at all.
func (c *backupCmd) write(s *session, resp *http.Response) error {
	place := durable.New
	if c.Force {
		place = durable.Over
	}
	err := durable.Write(c.File, place, func(w io.Writer) error { return s.download(w, resp) })
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s exists: name another file, or add --force to replace it", c.File)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w; no file was left", c.File, err)
	}
	s.term.sayf("%s is written: %s.", c.File, formatBytes(float64(resp.ContentLength)))
	return nil
}

// pipe writes to the standard output after the whole backup has arrived, so that a program that
// reads it never gets an incomplete one.
func (s *session) pipe(resp *http.Response) error {
	f, err := os.CreateTemp("", "ixmage-backup-*")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := s.download(f, resp); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(s.out, f); err != nil {
		return writeError(err)
	}
	return nil
}

// download copies the body of an answer, which has a length.
func (s *session) download(w io.Writer, resp *http.Response) error {
	if resp.ContentLength < 0 {
		return errors.New("the answer has no Content-Length: a proxy between this command and the server removed it; " +
			"use the URL of the server itself")
	}
	progress := s.term.bar("backup", int(resp.ContentLength))
	progress.text = func(n int) string { return formatBytes(float64(n)) }
	defer progress.end()
	n, err := io.Copy(w, io.TeeReader(resp.Body, progress))
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if err != nil || n != resp.ContentLength {
		return fmt.Errorf("the backup ended after %d of %d bytes: %w",
			n, resp.ContentLength, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}
