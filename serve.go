package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"ixmage/alias/admin"
	"ixmage/proxy"
)

// servers are the listeners and what answers on them.
type servers struct {
	public   *proxy.Proxy
	publicLn *proxy.Listener
	control  []control
}

// control is a listener for operators.
type control struct {
	server *admin.Server
	ln     net.Listener
}

// listen opens every listener before any of them is served, so that a port
// that is taken is found at once.
func (s *serveCmd) listen(ctx context.Context, public *proxy.Proxy, cfg admin.Config) (_ *servers, err error) {
	log := cfg.Log
	v := &servers{public: public}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.publicLn, err = proxy.Listen(s.Listen, log); err != nil {
		return nil, fmt.Errorf("open the public listener (--listen): %w", err)
	}
	if s.MetricsListen != "" {
		ops := admin.NewOps(admin.OpsConfig{Metrics: cfg.Metrics, Ready: cfg.Ready, Log: cfg.Log})
		cfg.Metrics = nil
		ln, err := net.Listen("tcp", s.MetricsListen)
		if err != nil {
			return nil, fmt.Errorf("open the metrics listener (--metrics-listen): %w", err)
		}
		v.control = append(v.control, control{ops, ln})
		announce(ctx, log, slog.String("listener", "metrics"), slog.String("addr", ln.Addr().String()))
	}
	ln, err := net.Listen("tcp", s.AdminListen)
	if err != nil {
		return nil, fmt.Errorf("open the admin listener (--admin-listen): %w", err)
	}
	addr := ln.Addr().String()
	if s.cert != nil {
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*s.cert}, MinVersion: tls.VersionTLS12})
	}
	v.control = append(v.control, control{admin.New(cfg), ln})
	announce(ctx, log, slog.String("listener", "admin"), slog.String("addr", addr), slog.Bool("tls", s.cert != nil))
	addr = v.publicLn.Addr().String()
	announce(ctx, log, slog.String("listener", "public"), slog.String("addr", addr), slog.String("version", version))
	return v, nil
}

// announce writes where a listener is, whatever --log-level says: with port 0
// nothing else tells, and scripts wait for the line.
func announce(ctx context.Context, log *slog.Logger, attrs ...slog.Attr) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "listening", 0)
	r.AddAttrs(attrs...)
	_ = log.Handler().Handle(ctx, r) // the handlers of slog leave the level to the logger
}

// run serves until ctx ends or a server fails. The public listener drains
// first; the operator's stay until it has, so that the drain can be watched.
func (v *servers) run(ctx context.Context, log *slog.Logger, o runOptions) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.public.Serve(v.publicLn) })
	for _, c := range v.control {
		g.Go(func() error { return c.server.Serve(c.ln) })
	}
	for _, fn := range o.background {
		g.Go(func() error { return fn(gctx) })
	}
	g.Go(func() error {
		<-gctx.Done()
		o.draining()
		log.Info("draining", "timeout", o.timeout)
		end, cancel := context.WithTimeout(context.WithoutCancel(gctx), o.timeout)
		defer cancel()
		if err := v.public.Stop(end, v.publicLn); err != nil {
			log.Warn("requests were still under way after --shutdown-timeout and are cut", "error", err)
		}
		for _, c := range v.control {
			_ = c.server.Shutdown(end) // what operators still ask is not worth waiting for
		}
		return nil
	})
	return g.Wait()
}

// runOptions are what servers run with.
type runOptions struct {
	timeout    time.Duration // for draining
	background []func(context.Context) error
	draining   func() // called when ctx has ended
}

func (v *servers) close() {
	if v.publicLn != nil {
		v.publicLn.Close()
	}
	for _, c := range v.control {
		c.ln.Close()
	}
}
