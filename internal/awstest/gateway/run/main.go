// Command run runs the S3 and IAM server of the tests for a program of another module. It makes
// the private bucket of its first argument with the sample pictures under pictures/, prints a line
// of JSON that says where everything is, and ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(bucket string) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ixmage-gateway-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, err := gateway.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = g.Stop() }()
	if err := g.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	for _, p := range picture.Samples() {
		obj := s3.Object{Body: p.Body, ContentType: p.ContentType}
		for _, key := range []string{"pictures/" + p.Name, "private/" + p.Name} {
			if err := g.PutObject(ctx, bucket, key, obj); err != nil {
				return err
			}
		}
	}
	reader, err := g.ReadOnlyUser(ctx, "reader", bucket, "pictures/")
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"s3": g.S3URL, "iam": g.IAMURL, "region": g.Region,
		"root_id": g.Root.AccessKeyID, "root_secret": g.Root.SecretAccessKey.Reveal(),
		"reader_id": reader.AccessKeyID, "reader_secret": reader.SecretAccessKey.Reveal(),
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
