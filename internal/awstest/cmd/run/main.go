// Command run runs the server for tests that its first argument names, gateway or minio, for a
// program of another module. It makes the private bucket of its second argument with the sample
// pictures under pictures/ and private/, prints a line of JSON that says where everything is, and
// ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/minio"
	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(name, bucket string) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ixmage-"+name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var where map[string]string
	switch name {
	case "gateway":
		g, err := gateway.Start(ctx, dir)
		if err != nil {
			return err
		}
		defer func() { _ = g.Stop() }()
		where, err = fillGateway(ctx, g, bucket)
		if err != nil {
			return err
		}
	case "minio":
		m, err := minio.Start(ctx, dir)
		if err != nil {
			return err
		}
		defer func() { _ = m.Stop() }()
		if err := fill(ctx, m, bucket); err != nil {
			return err
		}
		where = map[string]string{
			"url": m.URL, "region": m.Region, "root_id": m.Root.AccessKeyID, "root_secret": m.Root.SecretAccessKey.Reveal(),
		}
	default:
		return errors.New("the server must be gateway or minio, not " + name)
	}
	if err := json.NewEncoder(os.Stdout).Encode(where); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func fillGateway(ctx context.Context, g *gateway.Server, bucket string) (map[string]string, error) {
	if err := fill(ctx, g, bucket); err != nil {
		return nil, err
	}
	reader, err := g.ReadOnlyUser(ctx, "reader", bucket, "pictures/")
	return map[string]string{
		"s3": g.S3URL, "iam": g.IAMURL, "region": g.Region,
		"root_id": g.Root.AccessKeyID, "root_secret": g.Root.SecretAccessKey.Reveal(),
		"reader_id": reader.AccessKeyID, "reader_secret": reader.SecretAccessKey.Reveal(),
	}, err
}

// store is a server that holds objects.
type store interface {
	CreateBucket(ctx context.Context, bucket string) error
	PutObject(ctx context.Context, bucket, key string, obj s3.Object) error
}

// fill makes the bucket with its pictures.
func fill(ctx context.Context, to store, bucket string) error {
	if err := to.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	for _, p := range picture.Samples() {
		for _, key := range []string{"pictures/" + p.Name, "private/" + p.Name} {
			if err := to.PutObject(ctx, bucket, key, s3.Object{Body: p.Body, ContentType: p.ContentType}); err != nil {
				return err
			}
		}
	}
	return nil
}
