package cli

import (
	"encoding/json"
	"strconv"

	"ixmage/alias/client"
	"ixmage/alias/datadir"
)

type registryCmd struct {
	Copy registryCopyCmd `cmd:"" help:"Copy the registry of a stopped server or fleet between SQLite and PostgreSQL, and compare."`
}

type registryCopyCmd struct {
	From   string `required:"" help:"Registry to copy, which no server uses: postgres://…, a data folder, the path of a registry.db or of a backup, or sqlite:PATH. The password can be in PGPASSWORD or PGPASSFILE." placeholder:"URL"`
	To     string `required:"" help:"Empty registry to copy to, in the same forms. A file or folder is made; a database must exist, its tables are made." placeholder:"URL"`
	Output string `short:"o" enum:"table,json,yaml" default:"table" help:"Form of the output: table, json or yaml." placeholder:"FORM"`
}

func (*registryCopyCmd) Examples() []string {
	return []string{
		"ixmage registry copy --from /var/lib/ixmage --to postgres://ixmage@db.example.com/ixmage",
		"ixmage registry copy --from postgres://ixmage@db.example.com/ixmage --to /srv/ixmage -o json",
	}
}

// connection has the form of the output; the command calls no server.
func (c *registryCopyCmd) connection() *Connection { return &Connection{Output: c.Output} }

func (c *registryCopyCmd) Run(s *session) error {
	places := make([]datadir.Place, 2)
	for i, flag := range []struct{ name, text string }{{"from", c.From}, {"to", c.To}} {
		var err error
		if places[i], err = datadir.ParsePlace(flag.text); err != nil {
			return usagef("--%s: %v", flag.name, err)
		}
		if places[i].HasPassword() {
			s.term.sayf("The password in --%s is visible in the list of processes: use PGPASSWORD or PGPASSFILE instead.",
				flag.name)
		}
	}
	bar, shown := s.term.bar("rows", 0), int64(0)
	done, err := datadir.CopyRegistry(s.ctx, datadir.CopySpec{
		From: places[0], To: places[1], Progress: func(rows, all int64) {
			bar.total = int(all)
			bar.add(int(rows - shown))
			shown = rows
		},
	})
	bar.end()
	if err != nil {
		return err
	}
	err = s.showValue(copiedValue(done), func(v client.Value) {
		s.table(v.Get("tables").List(), []column{col("TABLE", "name"), col("ROWS", "rows"), col("SHA-256 OF BOTH", "sha256")})
	})
	if err == nil {
		err = s.out.Flush()
	}
	if err != nil {
		return writeError(err)
	}
	s.sayCopied(done)
	return nil
}

// copiedValue is the output of the command.
func copiedValue(done *datadir.CopiedRegistry) client.Value {
	number := func(n int64) client.Value { return client.Make(json.Number(strconv.FormatInt(n, 10))) }
	tables := make([]client.Value, len(done.Tables))
	for i, t := range done.Tables {
		tables[i] = client.Make(client.Object{
			{Name: "name", Value: client.Make(t.Name)}, {Name: "rows", Value: number(t.Rows)},
			{Name: "sha256", Value: client.Make(t.Digest)}, {Name: "replaced", Value: number(t.Replaced)},
		})
	}
	return client.Make(client.Object{
		{Name: "from", Value: client.Make(done.From)}, {Name: "to", Value: client.Make(done.To)},
		{Name: "keyset", Value: client.Make(done.Keyset)}, {Name: "tables", Value: client.Make(tables)},
	})
}

// sayCopied says what to do with the copy.
func (s *session) sayCopied(done *datadir.CopiedRegistry) {
	for _, t := range done.Tables {
		if t.Replaced > 0 {
			s.term.sayf("Texts in %s with bytes that PostgreSQL cannot store, which are � now: %d.", t.Name, t.Replaced)
		}
	}
	s.term.sayf("%s is a copy of %s, and equal to it. Do not use both: start only servers of one of them.",
		done.To, done.From)
	which := "with the fingerprint " + done.Keyset
	if done.Keyset == "" {
		which = "of the source"
	}
	s.term.sayf("The key set is not in the copy. The secrets are sealed with the one %s: "+
		"every server needs it, in its data folder or by --master-key.", which)
	switch {
	case done.Shared:
		s.term.sayf("Next: ixmage serve --store %s, on each node with a --data folder of its own.", done.To)
	case done.Dir != "":
		s.term.sayf("Next: ixmage serve --data %s, without --store.", done.Dir)
	default:
		s.term.sayf("Next: ixmage restore %s --data DIR, or another registry copy.", done.To)
	}
}
