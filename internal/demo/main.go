// Command demo shows ixmage at work on this machine alone: a real S3 and IAM
// server with pictures in a private bucket, two aliases that ixmage provisions
// with a read-only user each, what it proved of their keys, and URLs to try.
// Ctrl-C ends it all and leaves nothing behind.
//
// IMAGES names a folder whose pictures are shown instead of the samples.
// IXMAGE_LISTEN and IXMAGE_ADMIN_LISTEN say where ixmage listens.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

const (
	bucket = "demo-media"
	prefix = "website-images/"
	secret = "private/plan.png" // a key outside the prefix
)

// settings are what the environment says.
type settings struct {
	program       string // ixmage
	images        string // folder, empty for the samples
	listen, admin string // empty for the usual ones
	out, messages io.Writer
}

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	program, err := findPrograms()
	if err == nil {
		err = run(ctx, settings{
			program: program, images: os.Getenv("IMAGES"),
			listen: os.Getenv("IXMAGE_LISTEN"), admin: os.Getenv("IXMAGE_ADMIN_LISTEN"),
			out: os.Stdout, messages: os.Stderr,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// findPrograms looks for the other programs beside this one, where make puts
// them.
func findPrograms() (ixmage string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	gw := filepath.Join(filepath.Dir(self), "versitygw")
	if _, err := os.Stat(gw); err == nil && os.Getenv("IXMAGE_VERSITYGW") == "" {
		if err := os.Setenv("IXMAGE_VERSITYGW", gw); err != nil {
			return "", err
		}
	}
	ixmage = filepath.Join(filepath.Dir(self), "ixmage")
	if _, err := os.Stat(ixmage); err != nil {
		return "", fmt.Errorf("%w: run make demo, which builds everything", err)
	}
	return ixmage, nil
}

// run does everything and returns when ctx ends or ixmage does. Whatever was
// started is ended, last first, however far it came.
func run(ctx context.Context, set settings) error {
	pictures, err := choosePictures(set)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ixmage-demo-")
	if err != nil {
		return err
	}
	d := &demo{settings: set, dir: dir, pictures: pictures}
	err = d.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // Ctrl-C while something was under way
	}
	return errors.Join(err, d.end(), os.RemoveAll(dir))
}

// demo is what runs, as far as it has come.
type demo struct {
	settings
	dir      string
	pictures []pic
	gateway  *gateway.Server
	server   *server
	opened   []opened
}

// opened is an alias and how it came about.
type opened struct {
	name  string
	steps []step
	proof verification
}

func (d *demo) run(ctx context.Context) (err error) {
	fmt.Fprintln(d.messages, "Starting an S3 server with", len(d.pictures), "pictures in a private bucket …")
	if d.gateway, err = gateway.Start(ctx, d.dir); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	fmt.Fprintln(d.messages, "Making two read-only users and proving their keys, five times in a row …")
	if d.server, err = startServer(ctx, d); err != nil {
		return err
	}
	if err := d.present(ctx); err != nil {
		return fmt.Errorf("%w; the log of ixmage:\n%s", err, d.server.process.Output())
	}
	d.show()
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.messages, "\nStopping …")
		return nil
	case <-d.server.process.Done():
		return fmt.Errorf("ixmage has ended by itself: %s", d.server.process.Output())
	}
}

func (d *demo) end() error {
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.stop())
	}
	if d.gateway != nil {
		errs = append(errs, d.gateway.Stop())
	}
	return errors.Join(errs...)
}

// fill puts the pictures into a bucket, under the prefix, and one outside it.
func (d *demo) fill(ctx context.Context) error {
	if err := d.gateway.CreateBucket(ctx, bucket); err != nil {
		return fmt.Errorf("make the bucket: %w", err)
	}
	for _, p := range d.pictures {
		body, err := p.read()
		if err != nil {
			return err
		}
		obj := s3.Object{Body: body, ContentType: p.contentType}
		if err := d.gateway.PutObject(ctx, bucket, prefix+p.name, obj); err != nil {
			return fmt.Errorf("put %s: %w", p.name, err)
		}
	}
	plan := picture.Samples()[0]
	obj := s3.Object{Body: plan.Body, ContentType: plan.ContentType}
	if err := d.gateway.PutObject(ctx, bucket, secret, obj); err != nil {
		return fmt.Errorf("put %s: %w", secret, err)
	}
	return nil
}

// openAliases provisions both, each with a user, policy and key of its own.
func (d *demo) openAliases(ctx context.Context) error {
	for _, a := range []struct{ name, prefix, outside string }{{"pictures", "", ""}, {"shop", prefix, secret}} {
		o := opened{name: a.name}
		var err error
		if o.steps, err = d.server.provision(ctx, d.request(a.name, a.prefix, a.outside)); err != nil {
			return err
		}
		if o.proof, err = d.server.verify(ctx, a.name); err != nil {
			return err
		}
		d.opened = append(d.opened, o)
	}
	return nil
}

// present opens the aliases and tries them.
func (d *demo) present(ctx context.Context) error {
	if err := d.openAliases(ctx); err != nil {
		return err
	}
	return d.check(ctx)
}

// request is the body of the call that provisions an alias.
func (d *demo) request(name, prefix, outside string) map[string]any {
	inside := prefix + d.pictures[0].name
	if prefix == "" {
		inside = secret
	}
	return map[string]any{
		"alias": name, "bucket": bucket, "prefix": prefix,
		"region": d.gateway.Region, "endpoint": d.gateway.S3URL, "path_style": true,
		"probe": map[string]string{"inside": inside, "outside": outside},
	}
}

// check fetches what is about to be shown: the pictures by each alias, byte
// for byte, and one that must not be there.
func (d *demo) check(ctx context.Context) error {
	for _, p := range d.pictures[:min(shown, len(d.pictures))] {
		body, err := p.read()
		if err != nil {
			return err
		}
		for _, url := range []string{d.server.url("pictures", prefix+p.name), d.server.url("shop", p.name)} {
			if err := d.server.fetch(ctx, url, body); err != nil {
				return err
			}
		}
	}
	if err := d.server.fetch(ctx, d.server.url("pictures", secret), picture.Samples()[0].Body); err != nil {
		return err
	}
	return d.server.fetch(ctx, d.server.url("shop", secret), nil)
}

// shown is how many URLs an alias gets before the rest is only counted.
const shown = 12

func (d *demo) show() {
	w, s := d.out, d.server
	fmt.Fprintf(w, "\nalias pictures: the whole bucket %s\n\n", bucket)
	d.list(func(p pic) string { return s.url("pictures", prefix+p.name) })
	fmt.Fprintf(w, "    %s\n", s.url("pictures", secret))
	fmt.Fprintf(w, "\nalias shop: only %s in it, read by a user who may read nothing else\n\n", prefix)
	d.list(func(p pic) string { return s.url("shop", p.name) })
	fmt.Fprintf(w, "\n%s is outside that prefix: 404\n\n    %s\n", secret, s.url("shop", secret))
	for _, o := range d.opened {
		o.show(w)
	}
	fmt.Fprintf(w, "\nmetrics\n\n    http://%s/metrics\n", s.admin)
	fmt.Fprintf(w, "\nadmin API\n\n    curl -H \"Authorization: Bearer $(cat %s)\" http://%s/api/v1/aliases\n",
		s.tokenFile, s.admin)
	fmt.Fprintf(w, "\nlog of ixmage\n\n    %s\n\nCtrl-C ends it all.\n", s.log.Name())
}

// show tells what was done for an alias, and what was proven of its key.
func (o opened) show(w io.Writer) {
	fmt.Fprintf(w, "\nhow alias %s came about\n\n", o.name)
	for _, s := range o.steps {
		fmt.Fprintf(w, "    %-13s %8s  %s\n", s.Name, s.took(), s.Detail)
	}
	fmt.Fprintf(w, "\nwhat the key of %s was seen to be: scope %s\n\n", o.name, o.proof.Scope)
	for _, c := range o.proof.Checks {
		fmt.Fprintf(w, "    %-10s  %-15s %s\n", c.Verdict, c.Name, c.Detail)
	}
}

func (d *demo) list(url func(pic) string) {
	for i, p := range d.pictures {
		if i == shown {
			fmt.Fprintf(d.out, "    … and %d more\n", len(d.pictures)-shown)
			return
		}
		fmt.Fprintf(d.out, "    %s\n", url(p))
	}
}
