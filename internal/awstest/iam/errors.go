package iam

import "fmt"

// apiError is an error of AWS. A zero status stands for the status of the code.
type apiError struct {
	code, message string
	status        int
	detail        [][2]string // more elements of an error of S3
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refusal(code, format string, args ...any) error {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

func noSuchUser(name string) error {
	return refusal("NoSuchEntity", "The user with name %s cannot be found.", name)
}

func noSuchPolicy(arn string) error {
	return refusal("NoSuchEntity", "Policy %s does not exist or is not attachable.", arn)
}

func limitExceeded(quota string, limit int) error {
	return refusal("LimitExceeded", "Cannot exceed quota for %s: %d", quota, limit)
}

func invalid(name string) error {
	return refusal("ValidationError", "The specified value for %s is invalid.", name)
}

// statusOf is the status that IAM and STS give a code.
func statusOf(code string) int {
	switch code {
	case "NoSuchEntity":
		return 404
	case "EntityAlreadyExists", "DeleteConflict", "LimitExceeded", "ConcurrentModification",
		"EntityTemporarilyUnmodifiable":
		return 409
	case "AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "MissingAuthenticationToken",
		"ExpiredToken", "OptInRequired", "RegionDisabledException":
		return 403
	case "ServiceFailure", "InternalFailure":
		return 500
	case "NotImplemented":
		return 501
	case "MethodNotAllowed":
		return 405
	case "ServiceUnavailable":
		return 503
	}
	return 400
}
