// Command inprocess resizes pictures with libvips inside an HTTP server, as imgproxy does. It
// is what the benchmark compares ixmage with, and no part of the product: a picture that
// breaks libvips breaks this program.
//
//	GET /KEY?w=400&f=webp&q=80&e=4   fetches KEY from the origin and answers the picture
//	POST /?w=400&f=webp&q=80&e=4     takes the picture from the body
//
// The header Library-Time has the microseconds that libvips took.
package main

// #include "vips.h"
// #include <stdlib.h>
import "C"

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
	"unsafe"
)

func main() {
	origin := flag.String("origin", "", "URL before the key")
	flag.Parse()
	if C.start() != 0 {
		log.Fatal("libvips does not start: ", C.GoString(C.reason()))
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, C.GoString(C.version()), "addr="+ln.Addr().String())
	log.Fatal(http.Serve(ln, handler{*origin}))
}

type handler struct{ origin string }

// ServeHTTP resizes one picture.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	source, err := h.source(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	number := func(name string) C.int {
		n, _ := strconv.Atoi(r.FormValue(name))
		return C.int(n)
	}
	format := C.CString(r.FormValue("f"))
	defer C.free(unsafe.Pointer(format))
	var out unsafe.Pointer
	var n C.size_t
	began := time.Now()
	failed := C.resize(unsafe.Pointer(&source[0]), C.size_t(len(source)), format, number("w"), number("q"), number("e"), &out, &n)
	took := time.Since(began)
	if failed != 0 {
		http.Error(w, C.GoString(C.reason()), http.StatusUnprocessableEntity)
		return
	}
	defer C.release(out)
	w.Header().Set("Content-Type", "image/"+r.FormValue("f"))
	w.Header().Set("Content-Length", strconv.Itoa(int(n)))
	w.Header().Set("Library-Time", strconv.FormatInt(took.Microseconds(), 10))
	_, _ = w.Write(unsafe.Slice((*byte)(out), int(n)))
}

func (h handler) source(r *http.Request) ([]byte, error) {
	body := r.Body
	if r.Method == http.MethodGet {
		resp, err := http.Get(h.origin + r.URL.Path)
		if err != nil {
			return nil, err
		}
		body = resp.Body
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the origin answers %s", resp.Status)
		}
	}
	defer func() { _ = body.Close() }()
	source, err := io.ReadAll(body)
	if err == nil && len(source) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return source, err
}
