package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"ixmage/alias/admin"
)

// publicClient requests pictures from the public listener over a connection, so that an operator
// sees what clients get.
type publicClient struct{ http http.Client }

func newPublicClient(listener net.Addr) *publicClient {
	var d net.Dialer
	return &publicClient{http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return d.DialContext(ctx, "tcp", listener.String()) // an unspecified address is this machine
			},
			DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		},
	}}
}

// maxPublicProblem bounds a problem of the public listener.
const maxPublicProblem = 16 << 10

func (c *publicClient) Picture(ctx context.Context, r admin.PublicRequest) (*admin.PublicAnswer, error) {
	target := "http://localhost" + r.Path
	if r.Query != "" {
		target += "?" + r.Query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	if r.Accept != "" {
		req.Header.Set("Accept", r.Accept)
	}
	resp, err := c.http.Do(req) //nolint:bodyclose // the caller closes it
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the path, which is not logged
		}
		return nil, err
	}
	answer := &admin.PublicAnswer{
		Status: resp.StatusCode, Type: resp.Header.Get("Content-Type"), CacheStatus: resp.Header.Get("Cache-Status"),
		Size: resp.ContentLength, Body: resp.Body,
	}
	if strings.HasPrefix(answer.Type, "application/problem+json") {
		var problem struct {
			Type   string `json:"type"`
			Detail string `json:"detail"`
		}
		if json.NewDecoder(io.LimitReader(resp.Body, maxPublicProblem)).Decode(&problem) == nil {
			answer.Code, answer.Detail = path.Base(problem.Type), problem.Detail
		}
	}
	return answer, nil
}
