package awstest

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is what goes over the wire for one request.
type answer struct {
	status  int
	header  http.Header
	raw     []string
	body    []byte
	refused bool // for want of a right to it
}

// answer finds the right answer to a request and spoils it as the fault says.
// A fault of content does not open what the key may not read.
func (s *S3) answer(req *http.Request, at location, f *Fault) *answer {
	a := s.rightAnswer(req, at, f.Object)
	if !a.refused || f.Code != "" {
		f.apply(a, at)
	}
	if len(a.raw) > 0 {
		a.header.Set("Connection", "close")
	}
	if req.Method == http.MethodHead || a.status == http.StatusNotModified {
		a.body = nil
		a.header.Del("Transfer-Encoding")
	}
	if a.status == http.StatusNotModified {
		a.header.Del("Content-Length")
	}
	return a
}

func (s *S3) rightAnswer(req *http.Request, at location, instead *Object) *answer {
	s.mu.Lock()
	grants, checking, hidden := s.grants, s.checking, s.hidden
	owner, bucketKnown := s.buckets[at.bucket]
	st := s.objects[at]
	s.mu.Unlock()
	if instead != nil {
		st, bucketKnown = newStored(*instead), true
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
	case otherOwner(req.Header.Get("x-amz-expected-bucket-owner"), owner), st == nil && hidden:
		return errorAnswer("AccessDenied", at)
	case st == nil:
		return errorAnswer("NoSuchKey", at)
	}
	return st.answer(req.Header, at)
}

// otherOwner reports whether a request expects an owner that the bucket has
// not got.
func otherOwner(expected, owner string) bool {
	return expected != "" && owner != "" && expected != owner
}

// answer is 200, 206, 304, 412 or 416.
func (st *stored) answer(asked http.Header, at location) *answer {
	// A weak tag matches nothing (RFC 9110, 13.1.1).
	weak := strings.HasPrefix(asked.Get("If-Match"), "W/") // compares unequal to everything
	if match := asked.Get("If-Match"); match != "" && match != "*" && (match != st.ETag || weak) {
		return errorAnswer("PreconditionFailed", at)
	}
	a := &answer{status: http.StatusOK, header: st.header(), body: st.Body}
	if st.notModified(asked) {
		a.status, a.body = http.StatusNotModified, nil
		return a
	}
	if first, last, ok := parseRange(asked.Get("Range"), int64(len(st.Body))); ok {
		if first > last {
			return errorAnswer("InvalidRange", at)
		}
		a.status, a.body = http.StatusPartialContent, st.Body[first:last+1]
		a.header.Set("Content-Range", "bytes "+strconv.FormatInt(first, 10)+"-"+
			strconv.FormatInt(last, 10)+"/"+strconv.Itoa(len(st.Body)))
	} else if strings.EqualFold(asked.Get("x-amz-checksum-mode"), "ENABLED") && st.sum != "" {
		// S3 tells the whole object's checksum with the whole object only.
		a.header.Set(st.Checksum.header(), st.sum)
		a.header.Set("x-amz-checksum-type", "FULL_OBJECT")
	}
	a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
	return a
}

func (st *stored) notModified(asked http.Header) bool {
	if match := asked.Get("If-None-Match"); match != "" {
		return match == "*" || match == st.ETag
	}
	since, err := http.ParseTime(asked.Get("If-Modified-Since"))
	return err == nil && !st.LastModified.Truncate(time.Second).After(since)
}

func (st *stored) header() http.Header {
	h := baseHeader()
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

func baseHeader() http.Header {
	h := http.Header{}
	h.Set("Server", "AmazonS3")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("x-amz-request-id", "AWSTESTREQUEST01")
	h.Set("x-amz-id-2", "awstest-host-id")
	return h
}

// otherRegion is where S3 says the bucket lies when it refuses a region.
const otherRegion = "eu-west-1"

// errorAnswer is an error as S3 says it. A redirect leads back to this server,
// so that one who follows it is seen in Requests, in the bucket "redirected".
func errorAnswer(code string, at location) *answer {
	a := &answer{status: statusOf(code), header: baseHeader(), body: errorXML(code, otherRegion, at)}
	a.header.Set("Content-Type", "application/xml")
	a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
	switch code {
	case "PermanentRedirect", "TemporaryRedirect":
		a.header.Set("Location", "/redirected/"+url.PathEscape(at.key))
		a.header.Set("x-amz-bucket-region", otherRegion)
	case "AuthorizationHeaderMalformed":
		a.header.Set("x-amz-bucket-region", otherRegion)
	}
	return a
}

func errorXML(code, region string, at location) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<Error>")
	for _, e := range [][2]string{
		{"Code", code}, {"Message", "scripted " + code}, {"BucketName", at.bucket}, {"Key", at.key},
		{"Region", region}, {"RequestId", "AWSTESTREQUEST01"}, {"HostId", "awstest-host-id"},
	} {
		b.WriteString("<" + e[0] + ">")
		_ = xml.EscapeText(&b, []byte(e[1])) // a Buffer takes everything
		b.WriteString("</" + e[0] + ">")
	}
	b.WriteString("</Error>")
	return b.Bytes()
}

// parseTarget splits /bucket/key?query and decodes once. What cannot be
// decoded is taken as it stands.
func parseTarget(target string) location {
	if u, err := url.ParseRequestURI(target); err == nil && u.IsAbs() {
		target = u.EscapedPath()
	}
	path, _, _ := strings.Cut(target, "?")
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if decoded, err := url.PathUnescape(key); err == nil {
		key = decoded
	}
	return location{bucket, key}
}

// parseRange understands one range of bytes. ok is false where the header is
// to be ignored; first > last means that it cannot be satisfied.
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
