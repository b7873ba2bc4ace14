package provision

import (
	"context"
	"strings"
)

// fullAttempts is how many attempts at a key a deletion may take to reach IAM.
const fullAttempts = 4

// keySlots is an error if a user has two keys, also after some attempts: IAM needs a moment to
// show a deletion.
func (c caller) keySlots(ctx context.Context, user string, attempts int) error {
	if attempts < fullAttempts {
		return nil
	}
	keys, err := c.keys(ctx, user)
	if err == nil && len(keys) > 1 {
		return keySlotsTaken(user, keys)
	}
	return ignoreGone(err)
}

// keySlotsTaken is the error for a user that has two keys already.
func keySlotsTaken(user string, keys []accessKey) error {
	named := make([]string, len(keys))
	for i, k := range keys {
		named[i] = k.id
	}
	return failf(codeQuota, "no access key could be made for %s: a user has at most two, and it has %s; "+
		"find out who uses them, and delete one", user, strings.Join(named, " and "))
}
