package main

import (
	"reflect"
	"testing"
	"time"
)

func TestJournal(t *testing.T) {
	t.Parallel()
	h := journalHeader{"t12345678", "123456789012", "eu-west-1", time.Unix(1e9, 0).UTC()}
	j, err := createJournal(t.TempDir(), h)
	if err != nil {
		t.Fatal(err)
	}
	want := []thing{{kindUser, "a"}, {kindPolicy, "arn:aws:iam::1:policy/b"}}
	for _, one := range want {
		if err := j.add(one.Kind, one.Name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readJournal(j.path)
	if err != nil || got.header != h || !reflect.DeepEqual(got.list(), want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := createJournal(t.TempDir(), h); err != nil {
		t.Error(err)
	}
}

func TestParseJournal(t *testing.T) {
	t.Parallel()
	const head = `{"run":"t12345678","account":"1","region":"x"}` + "\n"
	for name, c := range map[string]struct {
		text   string
		things int
		ok     bool
	}{
		"empty":               {"", 0, true},
		"torn header":         {head[:20], 0, true},
		"header only":         {head, 0, true},
		"a thing":             {head + `{"kind":"user","name":"a"}` + "\n", 1, true},
		"a torn thing":        {head + `{"kind":"user","name":"a"}` + "\n" + `{"kind":"us`, 1, true},
		"not a journal":       {"hello\n", 0, false},
		"a run of no form":    {`{"run":"../../x"}` + "\n", 0, false},
		"a line of something": {head + "hello\n", 0, false},
		"a thing of no name":  {head + `{"kind":"user"}` + "\n", 0, false},
	} {
		j, err := parseJournal([]byte(c.text))
		if (err == nil) != c.ok || err == nil && len(j.things) != c.things {
			t.Errorf("%s: %+v, %v", name, j, err)
		}
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(`{"run":"t12345678","account":"1","region":"x"}` + "\n" + `{"kind":"user","name":"a"}` + "\n" + `{"ki`))
	f.Fuzz(func(t *testing.T, text []byte) {
		j, err := parseJournal(text)
		if err != nil {
			return
		}
		if j.header.Run != "" && !runForm.MatchString(j.header.Run) {
			t.Errorf("run %q", j.header.Run)
		}
		for _, one := range j.things {
			if one.Kind == "" || one.Name == "" {
				t.Errorf("%+v", one)
			}
		}
	})
}
