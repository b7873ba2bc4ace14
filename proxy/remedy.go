package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"ixmage/alias"
	"ixmage/internal/awserr"
	"ixmage/proxy/origin"
)

// Texts of Explanation.Remedy.
const (
	remedyKey = "The path is not a valid key: it must be /{alias}/{key}, percent-encoded once, without empty, \".\" " +
		"or \"..\" segments, control characters and backslashes, and no longer than 1,024 bytes."
	remedyPath = "The path names no alias: it must be /{alias}/{key}, and an alias is 1 to 63 of a-z, 0-9 and hyphen, " +
		"in lower case."
	remedyLong     = "The key is longer than 1,024 bytes together with the alias's prefix; S3 has no such object."
	remedyAlias    = "There is no alias of this name: register it, or correct the URL."
	remedyDisabled = "The alias is disabled: PATCH it with {\"enabled\":true}."
	remedyCached   = "It is served from the cache."
	remedyStale    = "It is served stale from the cache, because it could not be refreshed."
	remedyBroken   = "The answer begins with 200 and breaks off before its last byte. "
	remedyAgain    = "S3 now serves the picture to this credential, but ixmage remembers the earlier failure for " +
		"some seconds: wait, or purge the key if it was not found."
	remedyTruncated = "S3 sent fewer bytes than it declared, and broke off again when it was asked for the rest: " +
		"check the object in the store, and whatever lies between ixmage and S3."
	remedySenseless = "S3's answer made no sense or broke off: see the log for the request, and try again."
	remedyStored    = "No failure of this object is known: the stored object is stale, and the next request asks S3 " +
		"whether it has changed. A probe asks now (probe=true; --probe)."
	remedyLast    = "Nothing is known of this object yet; the last answer of S3 for this alias was a failure. "
	remedyUnknown = "No failure of this object is known: it is not cached, and the next request asks S3. " +
		"A probe asks now (probe=true; --probe)."
)

// remedyUnknownAlias tells an alias that was never registered from one whose row, or whose
// credential's, cannot be read.
func (p *Proxy) remedyUnknownAlias(name string) string {
	for _, d := range p.registry.Damaged() {
		if d.Kind == "alias" && string(d.Name) == name {
			return "The alias cannot be served, because " + d.Error() + ". Restore the database from backup."
		}
	}
	return remedyAlias
}

func remedyState(s alias.State) string {
	if s == alias.StateProvisioning {
		return "The alias is being provisioned and does not serve yet: see GET /api/v1/operations."
	}
	return "The alias's provisioning failed, so it is closed: GET /api/v1/operations says why; repeat the request to " +
		"start again."
}

// remedyFor returns the remedy for a problem. err is its cause, nil if it is not known.
func remedyFor(prob problem, err error) string {
	if remedy := remedyVariant(err); remedy != "" {
		return remedy
	}
	e, _ := errors.AsType[*origin.Error](err)
	switch {
	case errors.Is(err, origin.ErrTruncated) && prob != probTimeout:
		return remedyTruncated
	case e != nil && e.Hint != "" && hinted[prob]:
		return e.Hint
	}
	switch prob {
	case probNotFound:
		return remedyMissing(e)
	case probNotImage:
		return remedyNotImage(err)
	case probCredential:
		return remedyCredential(e)
	case probDenied:
		return remedyDenied + saying(e)
	case probOrigin:
		return remedyOrigin(e)
	}
	return cmp.Or(problemRemedies[prob], "This is an error in ixmage: see the log, and report it.")
}

// hinted are the problems whose cause origin.Error.Hint is about.
var hinted = map[problem]bool{probUnreachable: true, probTimeout: true, probOrigin: true}

// problemRemedies are the remedies that depend on nothing but the problem.
var problemRemedies = map[problem]string{
	probBadKey:      remedyKey,
	probUnreachable: "S3 cannot be reached: check the alias's endpoint and region, DNS, and the network from this host.",
	probTimeout: "S3 did not answer in time, or stopped in the middle of an answer (--origin-call-timeout, " +
		"--origin-idle-timeout): check the network and the state of the S3 service.",
	probThrottled: "S3 asks to slow down: spread the objects over more prefixes, or raise the limits of the service.",
	probCircuit: "S3 failed many times in a row, so ixmage sends it no requests for some seconds; it retries by " +
		"itself.",
	probOverloaded: "Too many requests wait for S3 already: the bucket answers too slowly for the load, or the " +
		"origin limits are too low.",
	probRegistryStale: "S3 refuses the key that this node knows. The key may have been rotated or replaced since: the " +
		"node does not reach the database (--store). It gets the new key by itself when the database answers.",
}

const remedyDenied = "S3 refuses the alias's canary too, so the grant is broken and not the URL: check the policy " +
	"of the credential's user, the bucket policy and the KMS key's policy, and whether the bucket has Requester " +
	"Pays; POST /api/v1/aliases/{name}/verify says which."

// Texts for an object that is not a picture.
const (
	remedyNoPicture = "The object is not a picture that ixmage knows%s: store it with an image/… Content-Type that " +
		"fits its bytes."
	remedyPage = "S3, or something between ixmage and S3, answers with a page or an error document instead of the " +
		"picture: look at the object's first bytes, upload it again if they are a page, else correct the alias's endpoint."
	remedyCoded = "The object is stored with the Content-Encoding %s, and ixmage does not decode it. If its bytes are " +
		"the picture itself, remove the header: aws s3 cp s3://BUCKET/KEY " +
		"s3://BUCKET/KEY --metadata-directive REPLACE --content-type image/… (with the type of the picture). " +
		"If they are compressed, decompress the file and upload it without a Content-Encoding."
	remedyNoCoding = "The object's Content-Encoding %s is no content coding of HTTP, and its first bytes are not a " +
		"picture of its Content-Type %s: they may be a text such as base64. Decode the file, and upload it without a " +
		"Content-Encoding and with the type of the picture."
)

// remedyNotImage names the header or the bytes because of which an object is not served.
func remedyNotImage(err error) string {
	coding, ok := errors.AsType[*codingError](err)
	switch {
	case ok && coding.real:
		return fmt.Sprintf(remedyCoded, quote(coding.value))
	case ok:
		return fmt.Sprintf(remedyNoCoding, quote(coding.value), quote(coding.contentType))
	case errors.Is(err, errContradiction):
		return remedyPage
	}
	reason := ""
	if err != nil {
		_, reason, _ = strings.Cut(err.Error(), errNotImage.Error()+": ")
	}
	if reason != "" {
		reason = " (" + reason + ")"
	}
	return fmt.Sprintf(remedyNoPicture, reason)
}

func remedyMissing(e *origin.Error) string {
	if e == nil || e.Outcome != origin.OutcomeDenied {
		return remedyNotFound(e)
	}
	if e.Code == "" && e.Operation == opGet { // S3 answers a GET with an error document
		return fmt.Sprintf(remedyNoDocument, e.Status)
	}
	return cmp.Or(faultRemedies[e.Fault], remedyAccessDenied) + saying(e)
}

const opGet = "GetObject"

const remedyNoDocument = "The answer is %d without an error code of S3: a proxy, firewall or web server before the " +
	"S3 server may have sent it. Check the alias's endpoint and what stands before it."

// isNoSuchKey reports whether a code of a 404 says no more than that there is no such object.
func isNoSuchKey(code string) bool {
	return code == "NoSuchKey" || code == "NotFound" || code == "NoSuchVersion"
}

func remedyNotFound(e *origin.Error) string {
	const missing = "S3 has no object of this key: check its spelling, the case of its letters and the alias's prefix."
	switch {
	case e == nil || e.Status == 0 || e.Operation != opGet: // the 404 of a HEAD has no code
		return missing
	case e.Code == "":
		return missing + " " + fmt.Sprintf(remedyNoDocument, e.Status)
	case isNoSuchKey(e.Code):
		return missing
	}
	return fmt.Sprintf("S3 refuses the request with %d %s.", e.Status, e.Code) + saying(e)
}

// remedyUnsigned begins the remedy for an AccessDenied of an alias without a key pair.
const remedyUnsigned = "The alias has no key pair, so its requests are not signed: if the bucket is not public, " +
	"register a key pair with POST /api/v1/credentials and PATCH the alias's credential. "

const remedyAccessDenied = "S3 answers AccessDenied. Without the right to list, which ixmage does not want, S3 " +
	"answers that for a missing object too: check the key's spelling and the alias's prefix first, then the policy. " +
	"A canary on the alias tells the two apart. A bucket with Requester Pays refuses every object so: ixmage does " +
	"not send x-amz-request-payer."

func remedyCredential(e *origin.Error) string {
	const keyPair = "S3 refuses the credential: replace its key pair with PUT /api/v1/credentials/{name}, or rotate it."
	switch {
	case e == nil:
		return keyPair
	case errors.Is(e, origin.ErrNoSession):
		return remedySession
	case e.Status == 0 && e.Code == "":
		return "The secret of the credential cannot be read: its row in the database is damaged, or sealed with another " +
			"key set. Replace the key pair with PUT /api/v1/credentials/{name}, or restore the database and the key set " +
			"from backup."
	}
	return cmp.Or(faultRemedies[e.Fault], keyPair) + saying(e)
}

// remedySession is for a credential with temporary keys when there are none; session tells why.
const remedySession = "There are no temporary keys to sign with: the error of the session says why. ixmage tries " +
	"again by itself."

// faultRemedies are the remedies for what S3 says to be wrong.
var faultRemedies = map[awserr.Fault]string{
	awserr.UnknownKey: "S3 does not know the access key id: it was deleted, is inactive, or belongs to another S3 " +
		"service. Rotate or replace the credential.",
	awserr.Signature: "The request that reached S3 is not the one that was signed. If something stands between " +
		"ixmage and S3 (a proxy, a CDN, a tunnel, a load balancer), it must pass on the Host, the path and the x-amz-… " +
		"headers unchanged, or the alias's endpoint must be the address of the S3 server itself. If nothing does, the " +
		"secret does not belong to the access key id: replace the key pair with PUT /api/v1/credentials/{name}.",
	awserr.ExpiredKey: "The key is temporary, and S3 says that it has expired or that its token is wrong: replace a key " +
		"pair by one of an IAM user. Sessions of a role are renewed by ixmage; if S3 refuses them, check that the endpoint " +
		"of STS belongs to this S3 server, and the clocks.",
	awserr.KeyForm: "The access key id has the wrong form for this S3 service: it is that of another service, or the " +
		"secret in its place. Cloudflare R2 wants the access key id of an R2 API token, 32 hexadecimal digits: replace " +
		"the key pair with PUT /api/v1/credentials/{name}.",
	awserr.SuspendedKey: "The user of the key pair is suspended at the S3 service: enable the user there, or replace " +
		"the key pair.",
	awserr.RefusedKey: "S3 refuses the key pair: it was revoked, is restricted to another bucket, or belongs to " +
		"another account or jurisdiction than the endpoint. Replace it with PUT /api/v1/credentials/{name}, or correct " +
		"the alias's endpoint and bucket.",
	awserr.Account: "The account at the S3 service is closed, suspended or not signed up, or access to the bucket is " +
		"disabled: settle that with the service.",
	awserr.Cap: "A cap or quota of the account at the S3 service is used up (Backblaze B2: Caps & Alerts): raise it " +
		"there, or wait until it is reset.",
	awserr.Endpoint: "S3 does not know the host that it was asked for: correct the alias's endpoint, region and " +
		"path_style.",
	awserr.Bucket:   "There is no such bucket: correct the alias's bucket, region, endpoint or path_style.",
	awserr.Archived: "The object is archived (Glacier): restore it, or store it in a class that can be read at once.",
	awserr.CustomerKey: "The object is encrypted with a key of the uploader (SSE-C), which S3 wants with every " +
		"request and ixmage does not have: store it with SSE-S3 or SSE-KMS.",
	awserr.KMSDenied: "The credential may not use the KMS key of the object: allow it kms:Decrypt, in its own policy " +
		"and in the key's policy.",
	awserr.KMSKey: "The KMS key of the object cannot be used: it is disabled, deleted, pending deletion or in " +
		"another region. Enable it, or encrypt the object with another one.",
	awserr.Clock: "The clock of this host is wrong: S3 refuses its signatures. Synchronise it.",
	awserr.Payload: "What S3 received is not the request that was signed: something between ixmage and S3 changes " +
		"it. Set the alias's endpoint to the address of the S3 server itself.",
	awserr.Feature: "The S3 server does not implement something that the request needs.",
	awserr.RequesterPays: "The bucket has Requester Pays, and ixmage does not send x-amz-request-payer: turn it off, " +
		"or copy the pictures to another bucket.",
}

func remedyOrigin(e *origin.Error) string {
	if e == nil {
		return remedySenseless
	}
	if remedy := remedyReply(e); remedy != "" {
		return remedy
	}
	switch {
	case e.Fault == awserr.Region || e.Status == 301 || e.Status == 307:
		return remedyRegion(e)
	case e.Status < 400:
		return fmt.Sprintf("The answer is a redirect (%d), which ixmage does not follow: correct the alias's endpoint. "+
			"A login page or a web server may stand before the S3 server.", e.Status)
	}
	if remedy, ok := faultRemedies[e.Fault]; ok {
		return remedy + saying(e)
	}
	if e.Status >= 500 && e.Status != http.StatusNotImplemented {
		return "S3 itself fails: ixmage retries by itself; see the state of the service." + saying(e)
	}
	return "S3 refuses the request with " + cmp.Or(e.Code, strconv.Itoa(e.Status)) + "." + saying(e)
}

// remedyReply is about a reply that is no error and cannot be used, and "" otherwise.
func remedyReply(e *origin.Error) string {
	switch {
	case errors.Is(e, origin.ErrCorrupt):
		return "S3 sent other bytes than it declares: the object does not match its checksum or length. Upload it " +
			"again; if many objects fail so, something between ixmage and S3 changes bodies."
	case errors.Is(e, origin.ErrChanged):
		return "The rest of the object is not what S3 declared: the object was replaced while it was read, or it is " +
			"truncated and S3 declares more bytes than it has. Try again; if that fails too, upload the object again."
	case errors.Is(e, origin.ErrNoEnd):
		return "S3 sent the object without a length, chunks and a checksum, so nothing proves that it is complete: " +
			"have the S3 server, or what stands before it, send a Content-Length."
	case errors.Is(e, origin.ErrBadRange):
		return "S3 answered a request for a range with something else: the S3 server, and what stands before it, " +
			"must implement Range."
	case e.Status < 300 || e.Status == 304:
		return remedySenseless
	}
	return ""
}

func remedyRegion(e *origin.Error) string {
	if e.Region == "" {
		return remedyNoRegion + saying(e)
	}
	return fmt.Sprintf("The bucket is in another region: S3 names %s. Set the alias's region to it: PATCH "+
		`{"region":"%[1]s"}.`, e.Region) + saying(e)
}

const remedyNoRegion = "The bucket is in another region, or S3 does not know the alias's region: correct the region. " +
	"Cloudflare R2 takes auto; other services name theirs in their documents."

// saying quotes S3's own message, if there is one.
func saying(e *origin.Error) string {
	if e == nil || e.Message == "" {
		return ""
	}
	return " S3 says " + strconv.Quote(e.Message) + "."
}
