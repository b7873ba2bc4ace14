package s3

import (
	"net/http"
	"strconv"
	"time"

	"ixmage/internal/awstest/netfault"
)

// BeforeHeaders is the place of a Stall or Cut before the first byte of an answer.
const BeforeHeaders int64 = -1

// Fault is the difference of an answer to the correct one. The zero Fault is no
// difference. The functions below make the usual faults, which may be changed
// further before their use.
type Fault struct {
	// Delay passes before the first byte.
	Delay time.Duration
	// Pace passes before each chunk of the body but the first, Chunk is the
	// chunk's size (zero: 32 KiB, or 1 byte with a Pace).
	Pace  time.Duration
	Chunk int
	// Stall waits at its place until released.
	Stall *Stall
	// Cut ends the connection at its place.
	Cut *Cut
	// Instead is sent instead of an answer, byte for byte, and the connection
	// is closed.
	Instead string
	// Before is sent before the answer, and After behind it in the same write, byte
	// for byte. The connection stays open.
	Before, After string

	// Object is answered instead of the stored one.
	Object *Object
	// Code answers with an error of S3 in its XML, with Status or, where that
	// is zero, the status that S3 gives it.
	Code   string
	Status int
	// Body replaces the body, unless it is nil, and takes its checksum away.
	Body []byte
	// Header changes the headers of the answer.
	Header func(http.Header)
	// Raw lines are sent after the headers, byte for byte and unchecked, each
	// followed by CR LF.
	Raw []string

	// Excess is added to the declared length, not to the body: the body is
	// shorter (above zero) or longer (below zero) than declared.
	Excess int64
	// Chunked sends the body in chunks, without a declared length, and Trailer lines after
	// the last chunk.
	Chunked bool
	Trailer []string
	// UntilClose declares no length: the end of the connection is that of the body.
	UntilClose bool
	// BadSum makes the checksum header wrong.
	BadSum bool
	// Composite gives the checksum the form of a multipart upload's, which is
	// one over the parts' checksums and says nothing about the whole.
	Composite bool
}

// Stall is a wait after so many bytes of the body, or BeforeHeaders. A nil
// Release is never released: the wait ends when the client or the server does.
type Stall struct {
	After   int64
	Release <-chan struct{}
}

// Cut is an end of the connection after so many bytes of the body, or
// BeforeHeaders. How says with what.
type Cut struct {
	After int64
	How   netfault.CutKind
}

// DelayHeaders lets d pass before the first byte.
func DelayHeaders(d time.Duration) *Fault { return &Fault{Delay: d} }

// Trickle sends the body in chunks of n bytes with a pause of d between them.
func Trickle(n int, d time.Duration) *Fault { return &Fault{Chunk: n, Pace: d} }

// StallAfter goes silent after n bytes of the body, or BeforeHeaders, until
// release is closed.
func StallAfter(n int64, release <-chan struct{}) *Fault {
	return &Fault{Stall: &Stall{After: n, Release: release}}
}

// ResetAfter resets the connection after n bytes of the body, or BeforeHeaders.
func ResetAfter(n int64) *Fault { return &Fault{Cut: &Cut{After: n, How: netfault.RST}} }

// CloseAfter closes the connection in order after n bytes of the body, or
// BeforeHeaders: a truncated answer.
func CloseAfter(n int64) *Fault { return &Fault{Cut: &Cut{After: n, How: netfault.FIN}} }

// NoHTTP answers as a server of another protocol would.
func NoHTTP() *Fault { return &Fault{Instead: "220 mail.example.com ESMTP\r\n"} }

// DeclareMore declares n bytes more than it sends, then closes.
func DeclareMore(n int64) *Fault { return &Fault{Excess: n} }

// DeclareLess declares n bytes less than it sends, then closes.
func DeclareLess(n int64) *Fault { return &Fault{Excess: -n} }

// Chunked sends the body in chunks, without a declared length.
func Chunked() *Fault { return &Fault{Chunked: true} }

// ChunkedCut sends n bytes of the body in chunks and closes without the last
// chunk.
func ChunkedCut(n int64) *Fault {
	return &Fault{Chunked: true, Cut: &Cut{After: n}}
}

// UntilClose ends the body with the connection, without a declared length.
func UntilClose() *Fault { return &Fault{UntilClose: true} }

// WrongChecksum sends a checksum that is not the body's.
func WrongChecksum() *Fault { return &Fault{BadSum: true} }

// CompositeChecksum sends the checksum of a multipart upload.
func CompositeChecksum() *Fault { return &Fault{Composite: true} }

// Fail answers with an error of S3 and the status that S3 gives it, 500 for a
// code not in Codes.
func Fail(code string) *Fault { return &Fault{Code: code} }

// FailStatus answers with an error of S3 and any status.
func FailStatus(status int, code string) *Fault { return &Fault{Status: status, Code: code} }

// HTML404 answers 404 as a web server that is no S3 would.
func HTML404() *Fault {
	return &Fault{
		Status: http.StatusNotFound,
		Body:   []byte("<html><body><h1>404 Not Found</h1></body></html>\n"),
		Header: func(h http.Header) { setType(h, "text/html") },
	}
}

// XML200 answers 200 with an error of S3 in the body.
func XML200() *Fault {
	return &Fault{
		Body:   errorXML("InternalError", "", Location{}),
		Header: func(h http.Header) { setType(h, "application/xml") },
	}
}

// setType leaves of an object's headers only a content type, the length and the
// date.
func setType(h http.Header, contentType string) {
	length, date := h.Get("Content-Length"), h.Get("Date")
	clear(h)
	h.Set("Date", date)
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", length)
}

// RawHeader adds header lines as they are: CR, LF, NUL and all.
func RawHeader(lines ...string) *Fault { return &Fault{Raw: lines} }

// Replace answers with another object, as if it had been put a moment ago.
func Replace(obj Object) *Fault { return &Fault{Object: &obj} }

// Codes are the errors of S3 that Fail knows, with their statuses.
func Codes() map[string]int {
	return map[string]int{
		"AccessDenied":                 http.StatusForbidden,
		"AuthorizationHeaderMalformed": http.StatusBadRequest,
		"ExpiredToken":                 http.StatusBadRequest,
		"InternalError":                http.StatusInternalServerError,
		"InvalidAccessKeyId":           http.StatusForbidden,
		"InvalidObjectState":           http.StatusForbidden,
		"InvalidRange":                 http.StatusRequestedRangeNotSatisfiable,
		"InvalidToken":                 http.StatusBadRequest,
		"KMS.DisabledException":        http.StatusBadRequest,
		"MethodNotAllowed":             http.StatusMethodNotAllowed,
		"NoSuchBucket":                 http.StatusNotFound,
		"NoSuchKey":                    http.StatusNotFound,
		"PermanentRedirect":            http.StatusMovedPermanently,
		"PreconditionFailed":           http.StatusPreconditionFailed,
		"RequestTimeTooSkewed":         http.StatusForbidden,
		"RequestTimeout":               http.StatusBadRequest,
		"ServiceUnavailable":           http.StatusServiceUnavailable,
		"SignatureDoesNotMatch":        http.StatusForbidden,
		"SlowDown":                     http.StatusServiceUnavailable,
		"TemporaryRedirect":            http.StatusTemporaryRedirect,
	}
}

// StatusOf is the status that goes with an error code.
func StatusOf(code string) int {
	if status, ok := Codes()[code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// apply turns the right answer into the one to send.
func (f *Fault) apply(a *Answer, at Location) {
	switch {
	case f.Code != "":
		*a = *errorAnswer(f.Code, at)
	case f.Body != nil:
		a.Status, a.Body = http.StatusOK, f.Body
		dropChecksums(a.Header)
	}
	if f.Status != 0 {
		a.Status = f.Status
	}
	if f.BadSum || f.Composite {
		f.spoilChecksum(a.Header)
	}
	a.Header.Set("Content-Length", strconv.FormatInt(int64(len(a.Body))+f.Excess, 10))
	if f.Chunked {
		a.Header.Del("Content-Length")
		a.Header.Set("Transfer-Encoding", "chunked")
	}
	if f.UntilClose {
		a.Header.Del("Content-Length")
		a.Header.Set("Connection", "close")
	}
	if f.Header != nil {
		f.Header(a.Header)
	}
	a.raw = f.Raw
}

func (f *Fault) spoilChecksum(h http.Header) {
	for _, c := range Checksums() {
		switch sum := h.Get(c.header()); {
		case sum == "":
		case f.Composite:
			h.Set(c.header(), sum+"-3")
			h.Set("x-amz-checksum-type", "COMPOSITE")
		default:
			h.Set(c.header(), c.of([]byte("another body")))
		}
	}
}

func dropChecksums(h http.Header) {
	for _, c := range Checksums() {
		h.Del(c.header())
	}
	h.Del("x-amz-checksum-type")
}
