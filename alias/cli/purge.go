package cli

import (
	"net/http"
	"time"

	"ixmage/alias/client"
)

type purgeCmd struct {
	Connection

	Alias  string         `arg:"" help:"Alias." completion:"aliases"`
	Key    *string        `arg:"" optional:"" help:"Path of one object after the alias, decoded, like logos/a b.png. Without it and --prefix: all objects of the alias."`
	Prefix *string        `help:"Purge the objects whose paths begin with this, like logos/." placeholder:"PREFIX"`
	Hard   bool           `help:"Drop the objects at once. Otherwise each may be served once more while it is fetched again."`
	Wait   *time.Duration `help:"Wait this long for nodes that have not purged yet, like 30s; 300s at most. Default: the server waits for 2s." placeholder:"DURATION"`
}

func (*purgeCmd) Examples() []string {
	return []string{
		"ixmage purge shop a.png", "ixmage purge shop --prefix logos/ --hard", "ixmage purge shop",
		"ixmage purge shop --hard --wait 30s",
	}
}

func (c *purgeCmd) Run(s *session) error {
	body := map[string]any{"alias": c.Alias, "hard": c.Hard}
	if c.Key != nil {
		body["key"] = *c.Key
	}
	if c.Prefix != nil {
		body["prefix"] = *c.Prefix
	}
	req := client.Request{Method: http.MethodPost, Path: client.Path("purge"), Body: body}
	if c.Wait != nil {
		if *c.Wait < time.Second {
			return usagef("--wait: %v is too short: use a whole number of seconds, like 30s", *c.Wait)
		}
		req.Wait = *c.Wait
	}
	resp, err := s.do(req)
	if err != nil {
		return s.suggest(err, "aliases", c.Alias)
	}
	return s.show(resp, func(v client.Value) {
		s.fields([]column{
			col("objects", "entries"), {"bytes", func(v client.Value) string { return byteSize(v.Get("bytes")) }},
			col("running fetches", "flights"), col("negative entries", "negative"), col("hint", "hint"),
			col("confirmed by", "nodes", "confirmed"), col("pending on", "nodes", "pending"),
		}, v)
	})
}
