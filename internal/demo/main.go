// Command demo runs ixmage on this machine alone: a real S3 and IAM server with
// pictures in a private bucket, and two aliases that ixmage provisions with a
// read-only user each. It prints the checks of their keys, and URLs to try, also of
// transformed pictures if there is a worker.
// Ctrl-C stops everything and leaves nothing behind.
//
// IMAGES names a folder whose pictures are shown instead of the samples.
// IXMAGE_LISTEN and IXMAGE_ADMIN_LISTEN are the addresses of ixmage.
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
	// outsideKey is the key of an object outside the prefix.
	outsideKey = "private/plan.png"
)

// config comes from the environment.
type config struct {
	program       string // path of ixmage
	worker        string // path of the worker that transforms pictures; empty: none
	images        string // folder; empty: the samples
	listen, admin string // empty: the defaults
	out, messages io.Writer
}

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait
	program, worker, err := findPrograms()
	if err == nil {
		err = run(ctx, config{
			program: program, worker: worker, images: os.Getenv("IMAGES"),
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

// findPrograms finds the other programs in the folder of this one, into which make
// builds all of them. The worker may be absent.
func findPrograms() (ixmage, worker string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	gw := filepath.Join(filepath.Dir(self), "versitygw")
	if _, err := os.Stat(gw); err == nil && os.Getenv("IXMAGE_VERSITYGW") == "" {
		if err := os.Setenv("IXMAGE_VERSITYGW", gw); err != nil {
			return "", "", err
		}
	}
	ixmage = filepath.Join(filepath.Dir(self), "ixmage")
	if _, err := os.Stat(ixmage); err != nil {
		return "", "", fmt.Errorf("%w: run make demo, which builds everything", err)
	}
	worker = filepath.Join(filepath.Dir(self), "ixmage-worker")
	if _, err := os.Stat(worker); err != nil {
		worker = ""
	}
	return ixmage, worker, nil
}

// run returns when ctx or ixmage ends. It stops the parts that it started, in reverse
// order, also if a step fails.
func run(ctx context.Context, cfg config) error {
	pictures, err := choosePictures(cfg)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ixmage-demo-")
	if err != nil {
		return err
	}
	d := &demo{config: cfg, dir: dir, pictures: pictures}
	err = d.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // Ctrl-C during a call
	}
	return errors.Join(err, d.stop(), os.RemoveAll(dir))
}

// demo is the state of a demonstration. A part that is not started is nil.
type demo struct {
	config
	dir      string
	pictures []object
	gateway  *gateway.Server
	server   *server
	aliases  []provisioned
	variants []variant // of pictures that are transformed
}

// provisioned is an alias with the steps that made it.
type provisioned struct {
	name  string
	steps []step
	proof verification
}

func (d *demo) run(ctx context.Context) (err error) {
	fmt.Fprintf(d.messages, "Starting an S3 server with %s in a private bucket …\n", counted(len(d.pictures)))
	if d.gateway, err = gateway.Start(ctx, d.dir); err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	fmt.Fprintln(d.messages, "Creating two read-only users and checking each key five times …")
	if d.server, err = startServer(ctx, d); err != nil {
		return err
	}
	if err := d.prepare(ctx); err != nil {
		return fmt.Errorf("%w; the log of ixmage:\n%s", err, d.server.process.Output())
	}
	d.show()
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.messages, "\nStopping …")
		return nil
	case <-d.server.process.Done():
		return fmt.Errorf("ixmage stopped unexpectedly: %s", d.server.process.Output())
	}
}

// counted writes a number of pictures.
func counted(n int) string {
	if n == 1 {
		return "1 picture"
	}
	return fmt.Sprintf("%d pictures", n)
}

func (d *demo) stop() error {
	var errs []error
	if d.server != nil {
		errs = append(errs, d.server.stop())
	}
	if d.gateway != nil {
		errs = append(errs, d.gateway.Stop())
	}
	return errors.Join(errs...)
}

// fill puts the pictures into a bucket under the prefix, and one outside it.
func (d *demo) fill(ctx context.Context) error {
	if err := d.gateway.CreateBucket(ctx, bucket); err != nil {
		return fmt.Errorf("create bucket "+bucket+": %w", err)
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
	if err := d.gateway.PutObject(ctx, bucket, outsideKey, obj); err != nil {
		return fmt.Errorf("put %s: %w", outsideKey, err)
	}
	return nil
}

// provision makes both aliases, each with a user, policy and key of its own.
func (d *demo) provision(ctx context.Context) error {
	for _, a := range []struct{ name, prefix, outside string }{{"pictures", "", ""}, {"shop", prefix, outsideKey}} {
		p := provisioned{name: a.name}
		var err error
		if p.steps, err = d.server.provision(ctx, d.request(a.name, a.prefix, a.outside)); err != nil {
			return err
		}
		if p.proof, err = d.server.verify(ctx, a.name); err != nil {
			return err
		}
		d.aliases = append(d.aliases, p)
	}
	return nil
}

// prepare makes the aliases and fetches their pictures.
func (d *demo) prepare(ctx context.Context) error {
	if err := d.provision(ctx); err != nil {
		return err
	}
	if err := d.transform(ctx); err != nil {
		return err
	}
	return d.check(ctx)
}

// request is the body of the call that provisions an alias.
func (d *demo) request(name, prefix, outside string) map[string]any {
	inside := prefix + d.pictures[0].name
	if prefix == "" {
		inside = outsideKey
	}
	return map[string]any{
		"alias": name, "bucket": bucket, "prefix": prefix,
		"region": d.gateway.Region, "endpoint": d.gateway.S3URL, "path_style": true,
		"probe": map[string]string{"inside": inside, "outside": outside},
	}
}

// check fetches the URLs that show prints. It compares the pictures byte for byte, and
// expects 404 for the last URL.
func (d *demo) check(ctx context.Context) error {
	for _, p := range d.pictures[:min(maxShown, len(d.pictures))] {
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
	if err := d.server.fetch(ctx, d.server.url("pictures", outsideKey), picture.Samples()[0].Body); err != nil {
		return err
	}
	for _, v := range d.variants {
		if err := d.server.fetchPicture(ctx, v.url); err != nil {
			return err
		}
	}
	return d.server.fetch(ctx, d.server.url("shop", outsideKey), nil)
}

// maxShown is the most URLs that are printed for an alias; the others are counted.
const maxShown = 12

func (d *demo) show() {
	w, s := d.out, d.server
	fmt.Fprintf(w, "\nalias pictures: the whole bucket %s\n\n", bucket)
	d.list(func(p object) string { return s.url("pictures", prefix+p.name) })
	fmt.Fprintf(w, "    %s\n", s.url("pictures", outsideKey))
	fmt.Fprintf(w, "\nalias shop: only %s in it, read by a user who may read nothing else\n\n", prefix)
	d.list(func(p object) string { return s.url("shop", p.name) })
	fmt.Fprintf(w, "\nshop/%s is the key %s%s, which does not exist: an alias cannot leave its prefix\n\n    %s\n",
		outsideKey, prefix, outsideKey, s.url("shop", outsideKey))
	d.showVariants()
	for _, p := range d.aliases {
		p.show(w)
	}
	fmt.Fprintf(w, "\nmetrics\n\n    http://%s/metrics\n", s.admin)
	fmt.Fprintf(w, "\nconsole: sign in with the token in %s\n\n    http://%s/\n", s.tokenFile, s.admin)
	fmt.Fprintf(w, "\ncommand line\n\n    export IXMAGE_ADMIN_URL=http://%s IXMAGE_ADMIN_TOKEN_FILE=%s\n",
		s.admin, s.tokenFile)
	fmt.Fprint(w, "    bin/ixmage alias ls\n")
	fmt.Fprintf(w, "\nadmin API\n\n    curl -H \"Authorization: Bearer $(cat %s)\" http://%s/api/v1/aliases\n",
		s.tokenFile, s.admin)
	fmt.Fprintf(w, "\nlog of ixmage\n\n    %s\n\nCtrl-C ends it all.\n", s.log.Name())
}

// show prints the steps of provisioning an alias and the checks of its key.
func (p provisioned) show(w io.Writer) {
	fmt.Fprintf(w, "\nsteps that provisioned alias %s\n\n", p.name)
	for _, s := range p.steps {
		fmt.Fprintf(w, "    %-13s %8s  %s\n", s.Name, s.took(), s.Detail)
	}
	fmt.Fprintf(w, "\nchecks of the key of %s: %s\n\n", p.name, p.proof.summary())
	for _, c := range p.proof.Checks {
		fmt.Fprintf(w, "    %-10s  %-15s %s\n", c.Verdict, c.Name, c.Detail)
	}
}

func (d *demo) list(url func(object) string) {
	for i, p := range d.pictures {
		if i == maxShown {
			fmt.Fprintf(d.out, "    … and %d more\n", len(d.pictures)-maxShown)
			return
		}
		fmt.Fprintf(d.out, "    %s\n", url(p))
	}
}
