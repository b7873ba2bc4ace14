// Command run runs MinIO, S3 and STS with session policies, for a program of another module. It makes
// the private bucket of its first argument with the sample pictures under pictures/, prints a line
// of JSON that says where everything is, and ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"ixmage/internal/awstest/minio"
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
	dir, err := os.MkdirTemp("", "ixmage-minio-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := minio.Start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = m.Stop() }()
	if err := m.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	for _, p := range picture.Samples() {
		for _, key := range []string{"pictures/" + p.Name, "private/" + p.Name} {
			if err := m.PutObject(ctx, bucket, key, s3.Object{Body: p.Body, ContentType: p.ContentType}); err != nil {
				return err
			}
		}
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]string{
		"url": m.URL, "region": m.Region, "root_id": m.Root.AccessKeyID, "root_secret": m.Root.SecretAccessKey.Reveal(),
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
