package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/scope"
)

// usedBucket is a bucket at a server, and the aliases on it.
type usedBucket struct {
	at      alias.Location // without its prefix and owner
	aliases []string
}

// server names the S3 server of a bucket.
func (p *usedBucket) server() string {
	if p.at.Endpoint == "" {
		return "S3 of AWS in " + p.at.Region
	}
	return "S3 at " + p.at.Endpoint
}

func (p *usedBucket) subject() string { return p.at.Bucket + " in " + p.at.Region }

// buckets asks each S3 server for the buckets of its aliases, without a signature. If a server
// does not answer for the first one, it is not asked for the others.
func (e *examination) buckets(ctx context.Context) {
	used := e.usedBuckets()
	if more := len(used) - maxBuckets; more > 0 {
		used = used[:maxBuckets]
		e.notTried(Bucket, fmt.Sprintf("%d more buckets", more), fmt.Sprintf("one examination asks for %d", maxBuckets), "")
	}
	servers := map[string][]*usedBucket{}
	for _, p := range used {
		servers[p.server()] = append(servers[p.server()], p)
	}
	var first errgroup.Group
	first.SetLimit(atOnce)
	silent := make(chan string, len(servers))
	for name, all := range servers {
		first.Go(func() error {
			if !e.firstBucket(ctx, all[0]) {
				silent <- name
			}
			return nil
		})
	}
	_ = first.Wait()
	close(silent)
	for name := range silent {
		for _, p := range servers[name] {
			e.notTried(Bucket, p.subject(), name+" gave no answer", "see the finding endpoint")
		}
		delete(servers, name)
	}
	var rest errgroup.Group
	rest.SetLimit(atOnce)
	for _, all := range servers {
		for _, p := range all[1:] {
			rest.Go(func() error {
				if found := e.lookUp(ctx, p); !e.outOfTime(ctx, Bucket, p.subject()) {
					e.bucket(p, found)
				}
				return nil
			})
		}
	}
	_ = rest.Wait()
}

// usedBuckets are the distinct buckets of all aliases, in a fixed order.
func (e *examination) usedBuckets() []*usedBucket {
	byLocation := map[alias.Location]*usedBucket{}
	for _, r := range e.routes {
		at := r.Alias.Location
		at.Prefix, at.BucketOwner = "", ""
		p, ok := byLocation[at]
		if !ok {
			p = &usedBucket{at: at}
			byLocation[at] = p
		}
		p.aliases = append(p.aliases, string(r.Alias.Name))
	}
	used := make([]*usedBucket, 0, len(byLocation))
	for _, p := range byLocation {
		slices.Sort(p.aliases)
		used = append(used, p)
	}
	slices.SortFunc(used, func(a, b *usedBucket) int {
		return cmp.Or(cmp.Compare(a.server(), b.server()), cmp.Compare(a.at.Bucket, b.at.Bucket))
	})
	return used
}

// firstBucket examines the first bucket of a server, and reports whether the server answered.
func (e *examination) firstBucket(ctx context.Context, p *usedBucket) bool {
	found := e.lookUp(ctx, p)
	if ctx.Err() != nil {
		e.outOfTime(ctx, Endpoint, p.server())
		return false
	}
	if found.State == scope.BucketNoAnswer {
		e.add(Finding{Endpoint, Bad, p.server(), "it gave no answer for the bucket " + p.at.Bucket,
			e.cfg.S3Hint(p.at, found.Err)})
		return false
	}
	e.good(Endpoint, p.server(), "it answers")
	e.bucket(p, found)
	return true
}

func (e *examination) lookUp(ctx context.Context, p *usedBucket) scope.Bucket {
	client := e.cfg.S3(p.at, alias.KeyPair{})
	client = s3.New(client.Options(), func(o *s3.Options) { o.APIOptions = append(o.APIOptions, e.readClock(p.server())) })
	return scope.LookUpBucket(ctx, client, p.at, "doctor")
}

func (e *examination) bucket(p *usedBucket, found scope.Bucket) {
	of := "the aliases " + list(p.aliases)
	if len(p.aliases) == 1 {
		of = "the alias " + p.aliases[0]
	}
	switch found.State {
	case scope.BucketMissing:
		e.add(Finding{Bucket, Bad, p.subject(), p.server() + " has no bucket of this name, which " + of + " read",
			"correct bucket of these aliases, or create the bucket"})
	case scope.BucketElsewhere:
		region := cmp.Or(found.Region, "that of the bucket")
		e.add(Finding{Bucket, Bad, p.subject(),
			"it is in the region " + cmp.Or(found.Region, "of another server") + ", and " + of + " name " + p.at.Region,
			"set region of these aliases to " + region})
	case scope.BucketNoAnswer:
		e.notTried(Bucket, p.subject(), p.server()+" gave no answer", e.cfg.S3Hint(p.at, found.Err))
	case scope.BucketUntold:
		e.good(Bucket, p.subject(), "it is there, as far as S3 tells without a signature; read by "+of)
	}
}
