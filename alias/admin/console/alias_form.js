// The fields of an alias, for registering and for changing one.

const more = 'Freshness and cache';
const pages = 'CORS';

// aliasFields are the members of an alias that can be written, but name and credential.
export const aliasFields = [
  { name: 'bucket', label: 'Bucket', required: true, placeholder: 'acme-media' },
  { name: 'prefix', label: 'Prefix', placeholder: 'website-images/', hint: 'In front of every key. Empty: the whole bucket.' },
  { name: 'region', label: 'Region', placeholder: 'eu-west-1', hint: 'Required for AWS.' },
  { name: 'endpoint', label: 'Endpoint', placeholder: 'https://s3.example.com', hint: 'Of an S3-compatible server. Empty: AWS.' },
  { name: 'canary', label: 'Canary', placeholder: 'logos/a.png', hint: 'Path of a picture that must be readable. It is the thumbnail, and decides what AccessDenied means.' },
  { name: 'bucket_owner', label: 'Bucket owner', placeholder: '123456789012', hint: '12-digit account id: S3 then refuses a bucket of another account.' },
  { name: 'path_style', label: 'Path style: host/bucket/key instead of bucket.host/key', type: 'checkbox' },
  { name: 'enabled', label: 'Enabled', type: 'checkbox', hint: 'Every key of a disabled alias is 404.' },
  { name: 'ttl', label: 'TTL', group: more, placeholder: '1h0m0s', hint: 'How long an object is fresh if it states no lifetime.' },
  { name: 'negative_ttl', label: 'Negative TTL', group: more, placeholder: '5s', hint: 'How long a negative entry, a remembered 404 of S3, is used.' },
  { name: 'stale_while_revalidate', label: 'Stale while revalidate', group: more, placeholder: '1m0s' },
  { name: 'stale_if_error', label: 'Stale if error', group: more, placeholder: '24h0m0s' },
  { name: 'cache_control', label: 'Cache-Control of the answers', group: more, placeholder: 'public, max-age=86400', hint: "Empty: the object's own." },
  { name: 'fallback.missing', label: 'Placeholder for 404', group: more, placeholder: 'none.png', hint: 'Path of a picture that is served instead of the error.' },
  { name: 'fallback.broken', label: 'Placeholder for 502, 503 and 504', group: more, placeholder: 'down.png', hint: 'Path of a picture that is served instead of the error.' },
  { name: 'cache_min', label: 'Cache minimum', group: more, placeholder: '64MiB', hint: "The part of the cache's memory that other aliases cannot take." },
  { name: 'cache_max', label: 'Cache maximum', group: more, placeholder: '512MiB', hint: "The most of the cache's memory that this alias may take." },
  { name: 'cors_origins', label: 'CORS origins', type: 'lines', group: pages, placeholder: 'https://shop.example.com', hint: 'Web pages whose scripts may read the pictures, one a line. * alone: all.' },
  { name: 'cors_headers', label: 'CORS headers', type: 'lines', group: pages, placeholder: 'X-Requested-With', hint: 'Headers that these pages may send, one a line.' },
];

// values makes the values of the form from an alias of the API.
export function values(alias) {
  const { fallback } = alias;
  const both = typeof fallback === 'string' ? { missing: fallback, broken: fallback } : fallback;
  return { ...Object.fromEntries(aliasFields.map((f) => [f.name, alias[f.name]])), 'fallback.missing': both.missing, 'fallback.broken': both.broken };
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// changed returns the members of after that differ from before, by name.
export const changed = (before, after) => Object.fromEntries(Object.entries(after).filter(([name, v]) => !same(before[name], v)));

// written drops the members without a value, for which the API has defaults.
export const written = (form) => Object.fromEntries(Object.entries(form).filter(([, v]) => v !== undefined && v !== '' && !(Array.isArray(v) && v.length === 0)));

// label is the label of a field, for messages.
export const label = (name) => aliasFields.find((f) => f.name === name)?.label ?? name;

// show is the text of a value in a message.
export const show = (v) => (v === '' || v == null ? 'nothing' : Array.isArray(v) ? v.join(', ') || 'nothing' : String(v));
