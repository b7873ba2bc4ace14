package s3

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Answer is the HTTP response to one request.
type Answer struct {
	Status  int
	Header  http.Header
	raw     []string
	Body    []byte
	refused bool // the request is not authorized
}

// answer applies the fault to the correct answer. A fault of content does not
// apply to a refusal: it must not grant a key more than it may read.
func (s *Server) answer(req *http.Request, at Location, f *Fault) *Answer {
	a := s.correctAnswer(req, at, f.Object)
	if !a.refused || f.Code != "" {
		f.apply(a, at)
	}
	if len(a.raw) > 0 {
		a.Header.Set("Connection", "close")
	}
	if req.Method == http.MethodHead || a.Status == http.StatusNotModified {
		a.Body = nil
		a.Header.Del("Transfer-Encoding")
	}
	if a.Status == http.StatusNotModified {
		a.Header.Del("Content-Length")
	}
	return a
}

func (s *Server) correctAnswer(req *http.Request, at Location, instead *Object) *Answer {
	s.mu.Lock()
	grants, checking, hidden := s.grants, s.checking, s.hideMissing
	owner, bucketKnown := s.buckets[at.Bucket]
	st := s.objects[at]
	s.mu.Unlock()
	if instead != nil {
		st, bucketKnown = NewStored(*instead), true
	}
	if code := authorize(req, grants, at); checking && code != "" {
		a := errorAnswer(code, at)
		a.refused = true
		return a
	}
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		return errorAnswer("MethodNotAllowed", at)
	case !bucketKnown:
		return errorAnswer("NoSuchBucket", at)
	case OtherOwner(req.Header.Get("x-amz-expected-bucket-owner"), owner), st == nil && hidden:
		return errorAnswer("AccessDenied", at)
	case st == nil:
		return errorAnswer("NoSuchKey", at)
	}
	return st.Answer(req.Header, at)
}

// OtherOwner reports whether a request expects another owner than the bucket has.
func OtherOwner(expected, owner string) bool {
	return expected != "" && owner != "" && expected != owner
}

// Answer answers a read with 200, 206, 304, 412 or 416.
func (st *Stored) Answer(asked http.Header, at Location) *Answer {
	// A weak tag matches nothing (RFC 9110, 13.1.1).
	weak := strings.HasPrefix(asked.Get("If-Match"), "W/") // compares unequal to everything
	if match := asked.Get("If-Match"); match != "" && match != "*" && (match != st.ETag || weak) {
		return errorAnswer("PreconditionFailed", at)
	}
	a := &Answer{Status: http.StatusOK, Header: st.header(), Body: st.Body}
	if st.notModified(asked) {
		a.Status, a.Body = http.StatusNotModified, nil
		return a
	}
	if first, last, ok := parseRange(asked.Get("Range"), int64(len(st.Body))); ok {
		if first > last {
			return errorAnswer("InvalidRange", at)
		}
		a.Status, a.Body = http.StatusPartialContent, st.Body[first:last+1]
		a.Header.Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+
			strconv.FormatInt(last, 10)+"/"+strconv.Itoa(len(st.Body)))
	} else if strings.EqualFold(asked.Get("x-amz-checksum-mode"), "ENABLED") && st.sum != "" {
		// S3 sends the checksum of an object only with the whole object.
		a.Header.Set(st.Checksum.header(), st.sum)
		a.Header.Set("x-amz-checksum-type", "FULL_OBJECT")
	}
	a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	return a
}

func (st *Stored) notModified(asked http.Header) bool {
	if match := asked.Get("If-None-Match"); match != "" {
		return match == "*" || match == st.ETag
	}
	since, err := http.ParseTime(asked.Get("If-Modified-Since"))
	return err == nil && !st.LastModified.Truncate(time.Second).After(since)
}

func (st *Stored) header() http.Header {
	h := BaseHeader()
	for name, value := range map[string]string{
		"ETag": st.ETag, "Last-Modified": st.LastModified.UTC().Format(http.TimeFormat), "Accept-Ranges": "bytes",
		"Content-Type": st.ContentType, "Cache-Control": st.CacheControl,
		"Content-Encoding": st.ContentEncoding, "Content-Disposition": st.ContentDisposition,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if st.ContentType == "" {
		h.Set("Content-Type", "binary/octet-stream") // S3's own default
	}
	for name, value := range st.Metadata {
		h.Set("x-amz-meta-"+name, value)
	}
	return h
}

// BaseHeader has the headers of every answer of S3.
func BaseHeader() http.Header {
	h := http.Header{}
	h.Set("Server", "AmazonS3")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("x-amz-request-id", "AWSTESTREQUEST01")
	h.Set("x-amz-id-2", "awstest-host-id")
	return h
}

// otherRegion is the region that S3 names when it refuses one.
const otherRegion = "eu-west-1"

// errorAnswer is an error of S3. A redirect leads back to this server, so that a
// client that follows it appears in Requests, in the bucket "redirected".
func errorAnswer(code string, at Location) *Answer {
	a := &Answer{Status: StatusOf(code), Header: BaseHeader(), Body: errorXML(code, otherRegion, at)}
	a.Header.Set("Content-Type", "application/xml")
	a.Header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	switch code {
	case "PermanentRedirect", "TemporaryRedirect":
		a.Header.Set("Location", "/redirected/"+url.PathEscape(at.Key))
		a.Header.Set("x-amz-bucket-region", otherRegion)
	case "AuthorizationHeaderMalformed":
		a.Header.Set("x-amz-bucket-region", otherRegion)
	}
	return a
}

func errorXML(code, region string, at Location) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<Error>")
	for _, e := range [][2]string{
		{"Code", code}, {"Message", "scripted " + code}, {"BucketName", at.Bucket}, {"Key", at.Key},
		{"Region", region}, {"RequestId", "AWSTESTREQUEST01"}, {"HostId", "awstest-host-id"},
	} {
		b.WriteString("<" + e[0] + ">")
		_ = xml.EscapeText(&b, []byte(e[1])) // a Buffer takes everything
		b.WriteString("</" + e[0] + ">")
	}
	b.WriteString("</Error>")
	return b.Bytes()
}

// ParseTarget splits /bucket/key?query and decodes the key once. A key that
// cannot be decoded is kept as it is.
func ParseTarget(target string) Location {
	if u, err := url.ParseRequestURI(target); err == nil && u.IsAbs() {
		target = u.EscapedPath()
	}
	path, _, _ := strings.Cut(target, "?")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if decoded, err := url.PathUnescape(key); err == nil {
		key = decoded
	}
	return Location{bucket, key}
}

// parseRange parses one byte range. ok is false if the header must be ignored;
// first > last means that the range cannot be satisfied.
func parseRange(header string, size int64) (first, last int64, ok bool) {
	spec, isBytes := strings.CutPrefix(header, "bytes=")
	from, to, found := strings.Cut(spec, "-")
	if !isBytes || !found || strings.Contains(spec, ",") {
		return 0, 0, false
	}
	end, endErr := strconv.ParseInt(to, 10, 64)
	if from == "" {
		return max(0, size-end), size - 1, endErr == nil
	}
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil || (to != "" && (endErr != nil || end < start)) {
		return 0, 0, false
	}
	if to == "" {
		end = size - 1
	}
	return start, min(end, size-1), true
}
