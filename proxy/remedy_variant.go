package proxy

import (
	"errors"

	"ixmage/alias/signature"
	"ixmage/proxy/transform"
)

// Texts of Explanation.Remedy about variants.
const (
	remedyNoVariant = "The stored picture is in the cache, and the variant is not: the next request has a worker make it."
	remedyUnkept    = "The signature is missing: sign the URL (ixmage sign; docs/signed-urls.md). "
	remedyOptions   = " docs/transforms.md has all options."
	remedyKilled    = "The picture killed the worker that decoded it: it takes longer than --transform-timeout, needs " +
		"more memory than --transform-memory, or uses a fault of a decoder. It is not tried again for five minutes " +
		"after that. Look at the file, and upload it again in a smaller size or newly encoded."
)

// remedyVariant returns the remedy for an error of a request for a variant, and "" for any other.
func remedyVariant(err error) string {
	if option, ok := errors.AsType[*transform.OptionError](err); ok {
		return "The option " + option.Option + " is not accepted: " + option.Detail + "." + remedyOptions
	}
	if unsigned, ok := errors.AsType[*unsignedError](err); ok {
		return remedySignature(unsigned)
	}
	if refused, ok := errors.AsType[*transform.RefusedError](err); ok {
		return remedyRefused(refused)
	}
	limited, _ := errors.AsType[*transform.LimitedError](err)
	switch {
	case transform.Killed(err):
		return remedyKilled
	case limited != nil && limited.Client:
		return "The client has used up its share of the time of the workers (--transform-client-share): it may try again " +
			"after the time in Retry-After. Answers from the cache are not limited."
	case limited != nil:
		return "The alias has used up its share of the time of the workers (--transform-alias-share): fewer widths or " +
			"templates make fewer variants, more processors make more workers. Answers from the cache are not limited."
	case errors.Is(err, transform.ErrOverloaded):
		return "All workers were busy, and the queue was full: give the server more processors (--transform-workers), or " +
			"ask for fewer variants."
	case errors.Is(err, transform.ErrOff):
		return "No worker can be started now; ixmage tries again by itself. The log and ixmage doctor say why."
	case errors.Is(err, transform.ErrInternal):
		return "The worker reported an error of its own: it may lack memory (--transform-memory). See the log."
	}
	return ""
}

func remedySignature(err *unsignedError) string {
	switch {
	case errors.Is(err, errSigned):
		return remedyUnkept + "Or, if the alias's transforms are templates, ask for a template (t), or " +
			"for one of its widths (w) alone; or set transforms to open, so that everybody may use every option."
	case errors.Is(err, signature.ErrMissing):
		return remedyUnkept + "The alias has access signed, so that originals need a signature too."
	case errors.Is(err, signature.ErrUnknownKey):
		return "The kid in the URL names none of the alias's signing keys: it was deleted, or belongs to another alias. " +
			"ixmage signing-key ls, or GET /api/v1/aliases/{name}/signing-keys, lists them; sign with one of them."
	case errors.Is(err, signature.ErrExpired):
		return "The URL has ended (exp): sign a new one. If it should be good still, compare the clocks of signer and server."
	case errors.Is(err, signature.ErrBadSignature):
		return "The signature does not fit the path and the options: the path must be signed as the client sends it, no " +
			"option may be added or changed afterwards, and the key must be the one that kid names. See docs/signed-urls.md."
	}
	return "The signature has a form that no signer makes: exp, kid and sig once each, sig with 43 characters of " +
		"base64url, exp in seconds of Unix time. See docs/signed-urls.md."
}

func remedyRefused(err *transform.RefusedError) string {
	which := "The picture"
	if err.Mark {
		which = "The watermark"
	}
	switch err.Why {
	case transform.TooLarge:
		return which + " is beyond the limits for transforms (40 MiB, 50 megapixels over all frames, 16 for AVIF, " +
			"16,384 pixels a side, 100 frames): upload it in a smaller size."
	case transform.Broken:
		if !err.Mark {
			which += " (or its watermark, if the URL has one)" // the worker does not say which
		}
		return which + " is broken or truncated: look at the file, and upload it again."
	case transform.CropOutside:
		return "Nothing of the picture is within crop, which is in pixels of the upright picture: info=1 shows its size."
	case transform.ResultTooLarge:
		return "The result would be beyond the limits (8,192 pixels a side, 25 megapixels, 32 MiB): ask for a smaller one."
	case transform.Unsupported: // as below
	}
	return which + " is of a type that is not transformed: JPEG, PNG, WebP, GIF and AVIF are."
}
