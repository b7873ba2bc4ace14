package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Kinds of things.
const (
	kindUser   = "user"
	kindRole   = "role"
	kindPolicy = "policy" // by its ARN
	kindBucket = "bucket"
)

// thing is what a run makes in an account.
type thing struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// journal is a file with the name of everything that a run makes, each written before it is
// made. It is removed when nothing is left. Its methods are safe for concurrent use.
type journal struct {
	path   string
	header journalHeader

	mu     sync.Mutex // guards what follows
	things []thing
	file   *os.File // nil if it was only read
}

// journalHeader is the first line.
type journalHeader struct {
	Run     string    `json:"run"`
	Account string    `json:"account"`
	Region  string    `json:"region"`
	Began   time.Time `json:"began"`
}

const journalEnd = ".journal"

func createJournal(dir string, h journalHeader) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j := &journal{path: filepath.Join(dir, h.Run+journalEnd), header: h}
	var err error
	if j.file, err = os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if err := j.write(h); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *journal) write(line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(text, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

// add must return before the thing is made.
func (j *journal) add(kind, name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(thing{kind, name}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.things = append(j.things, thing{kind, name})
	return nil
}

// list is everything that may have been made.
func (j *journal) list() []thing {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.things)
}

// remove deletes the file.
func (j *journal) remove() error {
	if j.file != nil {
		j.file.Close()
	}
	return os.Remove(j.path)
}

var runForm = regexp.MustCompile(`^t[a-z0-9]{8,20}$`)

// readJournal reads the journal of a run that was killed.
func readJournal(path string) (*journal, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	j, err := parseJournal(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	j.path = path
	return j, nil
}

// parseJournal ignores a last line that is incomplete: what it names was not made.
func parseJournal(text []byte) (*journal, error) {
	first, rest, ok := bytes.Cut(text, []byte("\n"))
	j := &journal{}
	if !ok {
		return j, nil // killed before it made anything
	}
	if err := json.Unmarshal(first, &j.header); err != nil || !runForm.MatchString(j.header.Run) {
		return nil, errors.New("line 1 is not the begin of a journal")
	}
	for n := 2; ; n++ {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return j, nil
		}
		var one thing
		if err := json.Unmarshal(line, &one); err != nil || one.Kind == "" || one.Name == "" {
			return nil, fmt.Errorf("line %d names nothing", n)
		}
		j.things, rest = append(j.things, one), after
	}
}

// journals are those of this account in the folder.
func (r *testRun) journals() ([]*journal, error) {
	paths, err := filepath.Glob(filepath.Join(r.o.dir, "*"+journalEnd))
	var list []*journal
	for _, path := range paths {
		j, err := readJournal(path)
		if err != nil {
			return nil, err
		}
		if j.header.Account == r.account.ID || j.header.Account == "" {
			list = append(list, j)
		}
	}
	return list, err
}
