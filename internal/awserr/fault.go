package awserr

import (
	"regexp"
	"strings"
)

// Fault is what an error of S3 is about, as far as its code and message tell.
type Fault string

// Faults. The comments name the codes, and whose they are if not Amazon's.
const (
	NoFault Fault = "" // the code tells nothing more than its name

	UnknownKey   Fault = "unknown-key"   // InvalidAccessKeyId; XAdminUserNotFound; Garage: AccessDenied, "No such key"
	Signature    Fault = "signature"     // SignatureDoesNotMatch; Garage: AccessDenied, "Invalid signature"
	KeyForm      Fault = "key-form"      // R2: InvalidArgument, "Credential access key has length 20, should be 32"
	ExpiredKey   Fault = "expired-key"   // ExpiredToken, InvalidToken
	RefusedKey   Fault = "refused-key"   // Unauthorized (R2), UnauthorizedAccess, bad_auth_token (B2), InvalidSecurity
	SuspendedKey Fault = "suspended-key" // UserSuspended (Ceph)

	Account       Fault = "account"        // AccountProblem, NotSignedUp, AllAccessDisabled
	Cap           Fault = "cap"            // QuotaExceeded (Ceph); B2: AccessDenied, "… cap exceeded"
	Region        Fault = "region"         // AuthorizationHeaderMalformed, PermanentRedirect, InvalidRegionName (R2)
	Endpoint      Fault = "endpoint"       // InvalidEndpoint, InvalidHostHeader
	Bucket        Fault = "bucket"         // NoSuchBucket, InvalidBucketName
	Archived      Fault = "archived"       // InvalidObjectState
	CustomerKey   Fault = "customer-key"   // InvalidRequest for an object under SSE-C
	KMSDenied     Fault = "kms-denied"     // AccessDenied that names kms:Decrypt, KMS.AccessDeniedException
	KMSKey        Fault = "kms-key"        // KMS.DisabledException, KMS.NotFoundException, KMS.KMSInvalidStateException
	Clock         Fault = "clock"          // RequestTimeTooSkewed, RequestExpired, ExpiredRequest (R2)
	Payload       Fault = "payload"        // XAmzContentSHA256Mismatch
	Feature       Fault = "feature"        // NotImplemented
	RequesterPays Fault = "requester-pays" // a message that names it; most servers say AccessDenied alone
)

var faults = map[string]Fault{
	"XAdminUserNotFound": UnknownKey, // versitygw
	"InvalidAccessKeyId": UnknownKey, "InvalidClientTokenId": UnknownKey, "UnrecognizedClientException": UnknownKey,
	"SignatureDoesNotMatch": Signature,
	"ExpiredToken":          ExpiredKey, "InvalidToken": ExpiredKey, "TokenRefreshRequired": ExpiredKey,
	"Unauthorized": RefusedKey, "UnauthorizedAccess": RefusedKey, "InvalidSecurity": RefusedKey,
	"unauthorized": RefusedKey, "bad_auth_token": RefusedKey, "expired_auth_token": RefusedKey,
	"UserSuspended":  SuspendedKey,
	"AccountProblem": Account, "NotSignedUp": Account, "AllAccessDisabled": Account, "AccountNotActivated": Account,
	"QuotaExceeded": Cap, "cap_exceeded": Cap, "download_cap_exceeded": Cap, "transaction_cap_exceeded": Cap,
	"AuthorizationHeaderMalformed": Region, "PermanentRedirect": Region, "TemporaryRedirect": Region,
	"InvalidRegionName": Region, "IllegalLocationConstraintException": Region, "InvalidLocationConstraint": Region,
	"InvalidEndpoint": Endpoint, "InvalidHostHeader": Endpoint,
	"NoSuchBucket": Bucket, "InvalidBucketName": Bucket,
	"InvalidObjectState":        Archived,
	"KMS.AccessDeniedException": KMSDenied,
	"RequestTimeTooSkewed":      Clock, "RequestExpired": Clock, "ExpiredRequest": Clock,
	"XAmzContentSHA256Mismatch": Payload,
	"NotImplemented":            Feature,
}

// clues are messages that say more than their code. They are evidence: no server documents
// its texts.
var clues = []struct {
	code  string // empty: any
	text  *regexp.Regexp
	fault Fault
}{
	{"InvalidArgument", regexp.MustCompile(`(?i)credential access key has length`), KeyForm},
	{"AccessDenied", regexp.MustCompile(`(?i)^forbidden: no such key`), UnknownKey},
	{"AccessDenied", regexp.MustCompile(`(?i)^forbidden: invalid signature`), Signature},
	{"AccessDenied", regexp.MustCompile(`(?i)\bcap exceeded`), Cap},
	{"AccessDenied", regexp.MustCompile(`\bkms:Decrypt\b`), KMSDenied},
	{"", regexp.MustCompile(`(?i)requester pays|x-amz-request-payer`), RequesterPays},
	{"InvalidRequest", regexp.MustCompile(`(?i)form of server.side encryption|customer.(provided )?key`), CustomerKey},
}

// FaultOf returns the fault of an error of S3.
func FaultOf(code, message string) Fault {
	for _, c := range clues {
		if (c.code == "" || c.code == code) && c.text.MatchString(message) {
			return c.fault
		}
	}
	if f, ok := faults[code]; ok {
		return f
	}
	if strings.HasPrefix(code, "KMS.") {
		return KMSKey
	}
	return NoFault
}

// region matches the region that S3 names in a message: "the region 'us-east-1' is wrong;
// expecting 'eu-west-1'", or in its error document.
var region = regexp.MustCompile(`expecting '([a-z0-9-]{1,32})'|<Region>([a-z0-9-]{1,32})</Region>`)

// RegionOf returns the region that an error document of S3 names, and "" if there is none.
func RegionOf(document string) string {
	found := region.FindStringSubmatch(document)
	if found == nil {
		return ""
	}
	return found[1] + found[2]
}

// kmsKey matches the ARN of a KMS key, in any partition.
var kmsKey = regexp.MustCompile(`\barn:aws[a-z-]{0,12}:kms:[a-z0-9-]{1,32}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}\b`)

// KMSKeyOf returns the ARN of the KMS key that the message of a refusal names, and "" if there
// is none: "… is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:…".
func KMSKeyOf(message string) string { return kmsKey.FindString(message) }

// OfKey reports whether the key pair is refused, for every object.
func (f Fault) OfKey() bool {
	switch f {
	case UnknownKey, Signature, KeyForm, ExpiredKey, RefusedKey, SuspendedKey:
		return true
	default:
		return false
	}
}
