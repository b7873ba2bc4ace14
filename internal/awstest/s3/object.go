package s3

import "time"

// Object is an object to store. Every field may be left out; gateway.Server
// ignores the fields from ETag on.
type Object struct {
	Body               []byte // shared, must not be changed afterwards
	ContentType        string
	CacheControl       string
	ContentEncoding    string
	ContentDisposition string
	Metadata           map[string]string // x-amz-meta-…

	ETag         string    // quotes included; empty: the MD5 of Body, quoted
	LastModified time.Time // zero: the moment of Put
	Checksum     Checksum  // stored with the object; empty: CRC64NVME, as S3 does
}
