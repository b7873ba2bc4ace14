package policy

// maxRevoke is the room that the inline policies of a user leave for Revoke, in
// characters.
const maxRevoke = 250

// Revoke is the inline policy that denies everything to the sessions of a user's keys. A
// session outlives its key by up to 36 hours, and only a policy ends it. Its requests alone
// carry aws:TokenIssueTime. Calls that a service makes for the user are left out, because
// they carry the key as well, and the requests of this server are none of them.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
const Revoke = `{"Version":"2012-10-17","Statement":[` +
	`{"Sid":"ixmageRevoke","Effect":"Deny","Action":"*","Resource":"*",` +
	`"Condition":{"Null":{"aws:TokenIssueTime":"false"},"Bool":{"aws:ViaAWSService":"false"}}}]}`
