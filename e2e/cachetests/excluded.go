package cachetests

import "strings"

// excluded are the tests of the suite that do not apply, each with the first reason
// that holds for it. TestScope checks the reasons.
var excluded = []Exclusion{
	{
		Name:  "private cache",
		Why:   "The test is for the cache of a browser. Ours is shared.",
		holds: func(t *Test) bool { return t.BrowserOnly },
		IDs: strings.Fields(`
				freshness-max-age-s-maxage-private freshness-max-age-s-maxage-private-multiple cc-resp-private-private
				cc-resp-immutable-fresh cc-resp-immutable-stale`),
	},
	{
		Name: "method",
		Why: "The test uses another method than GET. A cold HEAD stores nothing; any method but GET and " +
			"HEAD is 405.",
		holds: anyRequest(isOther),
		IDs: strings.Fields(`
				method-POST head-writethrough head-200-retain head-200-freshness-update head-200-update head-410-update
				invalidate-POST invalidate-POST-failed invalidate-PUT invalidate-PUT-failed invalidate-DELETE
				invalidate-DELETE-failed invalidate-M-SEARCH invalidate-M-SEARCH-failed invalidate-POST-location
				invalidate-PUT-location invalidate-DELETE-location invalidate-M-SEARCH-location invalidate-POST-cl
				invalidate-PUT-cl invalidate-DELETE-cl invalidate-M-SEARCH-cl`),
	},
	{
		Name: "status",
		Why: "The origin answers with a status that S3 does not give for an object. Its errors are no " +
			"pictures, ours are no-store; negative caching is internal.",
		holds: anyRequest(isStatus),
		IDs: strings.Fields(`
				heuristic-201-not_cached heuristic-202-not_cached heuristic-203-cached heuristic-204-cached
				heuristic-403-not_cached heuristic-404-cached heuristic-405-cached heuristic-410-cached
				heuristic-414-cached heuristic-501-cached heuristic-502-not_cached heuristic-503-not_cached
				heuristic-504-not_cached heuristic-599-not_cached heuristic-599-cached status-203-fresh status-203-stale
				status-204-fresh status-204-stale status-299-fresh status-299-stale status-301-fresh status-301-stale
				status-302-fresh status-302-stale status-303-fresh status-303-stale status-307-fresh status-307-stale
				status-308-fresh status-308-stale status-400-fresh status-400-stale status-404-fresh status-404-stale
				status-410-fresh status-410-stale status-499-fresh status-499-stale status-500-fresh status-500-stale
				status-502-fresh status-502-stale status-503-fresh status-503-stale status-504-fresh status-504-stale
				status-599-fresh status-599-stale status-599-must-understand`),
	},
	{
		Name: "part",
		Why: "The origin answers 206 to a request without a Range: a cold range of a small object " +
			"fetches it whole.",
		holds: anyRequest(isPart),
		IDs: strings.Fields(`
				partial-store-partial-reuse-partial partial-store-partial-reuse-partial-byterange
				partial-store-partial-reuse-partial-absent partial-store-partial-reuse-partial-suffix
				partial-store-partial-complete`),
	},
	{
		Name: "vary",
		Why: "The origin's answer varies with a header of the client's. None reaches S3, and none is " +
			"part of a cache key.",
		holds: anyRequest(isVarying),
		IDs: strings.Fields(`
				vary-match vary-no-match vary-omit-stored vary-omit vary-invalidate vary-cache-key vary-2-match
				vary-2-no-match vary-2-match-omit vary-3-match vary-3-no-match vary-3-order vary-3-omit
				vary-normalise-combine vary-normalise-lang-order vary-normalise-lang-case vary-normalise-lang-space
				vary-normalise-lang-select vary-normalise-space conditional-etag-vary-headers
				conditional-etag-vary-headers-mismatch`),
	},
	{
		Name: "request Cache-Control",
		Why: "Cache-Control of a request is ignored: a stranger cannot make the proxy spend S3 " +
			"requests.",
		holds: anyRequest(asks("Cache-Control")),
		IDs: strings.Fields(`
				ccreq-ma0 ccreq-ma1 ccreq-magreaterage ccreq-max-stale ccreq-max-stale-age ccreq-min-fresh
				ccreq-min-fresh-age ccreq-no-cache ccreq-no-cache-lm ccreq-no-cache-etag ccreq-no-store ccreq-oic`),
	},
	{
		Name: "authorization",
		Why: "Authorization of a client does not reach S3: the alias's key pair signs, and what it " +
			"opens is public.",
		holds: anyRequest(asks("Authorization")),
		IDs: strings.Fields(`
				other-authorization other-authorization-public other-authorization-must-revalidate
				other-authorization-smaxage`),
	},
	{
		Name:  "no picture",
		Why:   "The origin's answer has a Content-Type or Content-Encoding that no picture has: 415.",
		holds: anyRequest(isNoPicture),
		IDs: strings.Fields(`
				headers-store-Content-Encoding headers-store-Content-Type 304-etag-update-response-Content-Encoding
				304-etag-update-response-Content-Type`),
	},
	{
		Name: "header",
		Why: "The test looks for a header that clients never get from S3: a 200 carries what the " +
			"interface lists, and no other header. Expires is sent as max-age; Date is that of the " +
			"answer.",
		holds: anyRequest(isNotRelayed),
		IDs: strings.Fields(`
				headers-omit-headers-listed-in-Cache-Control-no-cache-single
				headers-omit-headers-listed-in-Cache-Control-no-cache stale-warning-stored stale-warning-become
				headers-omit-headers-listed-in-Connection headers-store-Test-Header headers-store-X-Test-Header
				headers-store-Content-Foo headers-store-X-Content-Foo headers-store-Content-Location
				headers-store-Content-MD5 headers-store-Content-Range headers-store-Content-Security-Policy
				headers-store-Clear-Site-Data headers-store-Expires headers-store-Public-Key-Pins
				headers-store-Set-Cookie headers-store-Set-Cookie2 headers-store-X-Frame-Options
				headers-store-X-XSS-Protection 304-lm-use-stored-Test-Header 304-etag-update-response-Test-Header
				304-etag-update-response-X-Test-Header 304-etag-update-response-Content-Foo
				304-etag-update-response-X-Content-Foo 304-etag-update-response-Content-Location
				304-etag-update-response-Content-MD5 304-etag-update-response-Content-Range
				304-etag-update-response-Content-Security-Policy 304-etag-update-response-Clear-Site-Data
				304-etag-update-response-Expires 304-etag-update-response-Public-Key-Pins
				304-etag-update-response-Set-Cookie 304-etag-update-response-Set-Cookie2
				304-etag-update-response-X-Frame-Options 304-etag-update-response-X-XSS-Protection
				partial-use-stored-headers other-date-update`),
	},
	{
		Name:  "query",
		Why:   "A query string is no part of the cache key.",
		holds: func(t *Test) bool { return t.any(func(q *Request) bool { return q.QueryArg != "" }) },
		IDs: strings.Fields(`
				query-args-different`),
	},
	{
		Name: "malformed",
		Why: "The origin's Transfer-Encoding is none: HTTP itself cannot tell where the answer ends. A " +
			"broken reply is 502.",
		holds: func(t *Test) bool {
			return t.any(func(q *Request) bool { return valueOf(q.Response, "Transfer-Encoding") != "" })
		},
		IDs: strings.Fields(`
				headers-store-Transfer-Encoding`),
	},
}
