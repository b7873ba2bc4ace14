// The fields of a credential: a key pair, or a role whose sessions sign.

export const pairFields = [
  { name: 'access_key_id', label: 'Access key id', required: true },
  { name: 'secret_access_key', label: 'Secret access key', type: 'password', required: true, hint: 'It is sealed, and no answer ever contains it.' },
  { name: 'expect', label: 'Expected scope', type: 'select', options: [{ value: '', label: 'read the locations of its aliases' }, { value: 'read-only-access', label: 'read and list every bucket' }],
    hint: 'The verdict of a key with a wider scope is violated, unless this scope is expected.' },
];

const more = 'Source and session';

export const roleFields = [
  { name: 'role_arn', label: 'Role ARN', required: true, placeholder: 'arn:aws:iam::123456789012:role/ixmage-pictures', hint: 'Only roles that --assume-roles of the server allows.' },
  { name: 'external_id', label: 'External id', hint: 'If the trust policy of the role asks for one.' },
  { name: 'source', label: 'Source', group: more, placeholder: 'default', hint: "What assumes the role: default for the server's own credentials, or the name of a key pair." },
  { name: 'duration', label: 'Duration', group: more, placeholder: '1h0m0s', hint: 'How long a session lives, from 15m to 12h.' },
  { name: 'session_policy', label: 'Session policy', type: 'select', group: more, byDefault: 'alias', options: [{ value: 'alias', label: 'a session reads the location of its alias' }, { value: 'none', label: 'a session can do all that the role can' }],
    hint: 'The second needs --allow-wide-scope of the server.' },
  { name: 'kms_key_arn', label: 'KMS key ARN', group: more, placeholder: 'arn:aws:kms:eu-west-1:123456789012:key/…', hint: 'If the objects are encrypted with it.' },
  { name: 'region', label: 'Region of STS', group: more, placeholder: 'eu-west-1', hint: "Empty: the server's." },
  { name: 'account', label: 'Account', group: more, hint: 'An entry of --accounts, whose external id and region apply if the role has none.' },
  { name: 'source_identity', label: 'Source identity', type: 'checkbox', group: more, hint: 'The trust policy must allow sts:SetSourceIdentity.' },
];

// inside names fields as members of another one, and shows them when a value is chosen.
export const inside = (fields, name, when) => fields.map((f) => ({ ...f, name: name ? `${name}.${f.name}` : f.name, when }));

// kinds are the kinds of credential that can be registered.
export const kinds = [
  { value: 'static', label: 'a key pair' },
  { value: 'role', label: 'a role' },
  { value: 'default', label: "the server's own credentials" },
  { value: 'anonymous', label: 'no key: the bucket is public' },
];

// signer is what a credential signs with, for people.
export const signer = (c) => c.role_arn || c.access_key_id || '';
