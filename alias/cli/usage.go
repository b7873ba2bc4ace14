package cli

import (
	"fmt"
	"net/http"
	"net/url"

	"ixmage/alias/client"
)

type usageCmd struct {
	Connection

	Alias string `arg:"" optional:"" help:"Alias. Without it: all." completion:"aliases"`
	By    string `help:"Length of a step of the history: hour or day." default:"hour" enum:"hour,day"`
}

func (*usageCmd) Examples() []string {
	return []string{"ixmage usage", "ixmage usage shop --by day", "ixmage usage shop -o json"}
}

func (c *usageCmd) Run(s *session) error {
	if c.Alias != "" {
		resp, err := s.usageOf(c.Alias, c.By)
		if err != nil {
			return s.suggest(err, "aliases", c.Alias)
		}
		return s.show(resp, func(v client.Value) { s.usage(c.By, v) })
	}
	v, err := s.list(client.Pages{
		Path: client.Path("usage"), Query: url.Values{"by": {c.By}}, Member: "usage", By: "alias", Param: "after", Size: 1000,
	})
	if client.IsStatus(err, http.StatusNotFound) {
		v, err = s.usageOfEach(c.By)
	}
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) { s.usage(c.By, v.Get("usage").List()...) })
}

// usageOf reads the usage of an alias. A server that keeps no history refuses the
// parameter, and is asked again without it.
func (s *session) usageOf(name, by string) (*client.Response, error) {
	path := client.Path("aliases", name, "usage")
	resp, err := s.do(client.Request{Path: path, Query: url.Values{"by": {by}}})
	if client.IsStatus(err, http.StatusBadRequest) {
		return s.do(client.Request{Path: path})
	}
	return resp, err
}

// usageOfEach reads the usage of all aliases from a server that has no call for it.
func (s *session) usageOfEach(by string) (client.Value, error) {
	names, err := s.names("aliases")
	all := make([]client.Value, len(names))
	for i := 0; i < len(names) && err == nil; i++ {
		var resp *client.Response
		if resp, err = s.usageOf(names[i], by); err == nil {
			all[i], err = resp.Value()
		}
	}
	return client.Make(client.Object{{Name: "usage", Value: client.Make(all)}}), err
}

// usage prints a table of what aliases have cost and saved.
func (s *session) usage(by string, rows ...client.Value) {
	columns := []column{
		col("ALIAS", "alias"), {"SINCE", at("since")}, col("TO S3", "spent", "requests"), {"FROM S3", size("spent", "bytes")},
		col("HITS", "saved", "hit", "requests"), {"SAVED", size("saved", "hit", "bytes")}, {"HIT RATIO", hitRatio},
	}
	for _, r := range rows {
		if len(r.Get("series").List()) > 0 {
			columns = append(columns, column{"REQUESTS BY " + map[string]string{"hour": "HOUR", "day": "DAY"}[by], trend})
			break
		}
	}
	s.table(rows, columns)
}

func size(path ...string) func(client.Value) string {
	return func(v client.Value) string { return byteSize(v.Get(path...)) }
}

// hitRatio is the share of requests that the cache answered.
func hitRatio(v client.Value) string {
	hits := v.Get("saved", "hit", "requests").Int() + v.Get("saved", "collapsed", "requests").Int()
	all := hits + v.Get("spent", "requests").Int()
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*float64(hits)/float64(all))
}

// trend draws the requests of a series.
func trend(v client.Value) string {
	series := v.Get("series").List()
	values := make([]int64, len(series))
	for i, e := range series {
		values[i] = e.Get("spent", "requests").Int() + e.Get("saved", "hit", "requests").Int() + e.Get("saved", "collapsed", "requests").Int()
	}
	return spark(values)
}
