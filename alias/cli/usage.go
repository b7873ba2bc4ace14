package cli

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ixmage/alias/client"
)

type usageCmd struct {
	Connection

	Alias string `arg:"" optional:"" help:"Alias. Without it: all." completion:"aliases"`
	By    string `help:"Length of a step of the history: hour or day." default:"hour" enum:"hour,day" placeholder:"STEP"`
	Last  int    `help:"Steps of the history." default:"24" placeholder:"N"`
}

func (*usageCmd) Examples() []string {
	return []string{"ixmage usage", "ixmage usage shop --by day --last 90", "ixmage usage shop -o json"}
}

func (c *usageCmd) Run(s *session) error {
	query := url.Values{"by": {c.By}, "last": {strconv.Itoa(c.Last)}}
	if c.Alias != "" {
		resp, err := s.do(client.Request{Path: client.Path("aliases", c.Alias, "usage"), Query: query})
		if err != nil {
			return s.suggest(err, "aliases", c.Alias)
		}
		return s.show(resp, func(v client.Value) { s.usage(c.By, v) })
	}
	v, err := s.list(client.Pages{
		Path: client.Path("usage"), Query: query, Member: "usage", By: "alias", Param: "after", Size: 1000,
	})
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) { s.usage(c.By, v.Get("usage").List()...) })
}

// usage prints a table of what aliases have cost and saved.
func (s *session) usage(by string, rows ...client.Value) {
	columns := []column{
		col("ALIAS", "alias"), {"SINCE", at("since")}, col("TO S3", "spent", "requests"), {"FROM S3", size("spent", "bytes")},
		col("HITS", "saved", "hit", "requests"), {"SAVED", size("saved", "hit", "bytes")}, {"HIT RATIO", hitRatio},
	}
	transformed := func(r client.Value) bool { return r.Get("transforms", "jobs").Int() > 0 }
	if slices.ContainsFunc(rows, transformed) {
		columns = append(columns, col("TRANSFORMS", "transforms", "jobs"), column{"WORKER TIME", workerTime})
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

// workerTime is for how long workers were busy.
func workerTime(v client.Value) string {
	return (time.Duration(v.Get("transforms", "worker_ms").Int()) * time.Millisecond).String()
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
		for _, path := range [][]string{{"spent"}, {"saved", "hit"}, {"saved", "collapsed"}} {
			values[i] += e.Get(path...).Get("requests").Int()
		}
	}
	return spark(values)
}
