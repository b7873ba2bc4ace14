import assert from 'node:assert/strict';
import test from 'node:test';
import { choose } from '../screens/aliases.js';
import { changed, values, written } from '../alias_form.js';

const row = (name, more = {}) => ({ name, bucket: 'media', prefix: '', credential: name, region: '', endpoint: '', state: 'active', enabled: true, scope: 'proven', ...more });
const rows = [
  row('blog', { prefix: 'Blog/', key: '2026-01-02' }), row('off', { enabled: false, key: '2026-01-01' }),
  row('shop', { bucket: 'acme', scope: 'violated', key: '2026-01-03' }), row('soon', { state: 'provisioning', scope: '', key: null }),
].map((r, index) => ({ ...r, index }));

test('choose', () => {
  for (const [want, look] of [
    ['blog off shop soon', {}], ['soon shop off blog', { by: 'name', down: true }], ['blog', { q: 'BLOG/' }], ['blog', { q: 'media blog' }], ['', { q: 'media none' }],
    ['off', { show: 'disabled' }], ['blog shop', { show: 'active' }], ['soon', { show: 'pending' }], ['shop', { show: 'unproven' }], ['blog off shop soon', { show: 'none' }],
    ['soon off blog shop', { by: 'key' }], ['shop blog off soon', { by: 'key', down: true }], ['shop off soon blog', { by: 'place' }], ['blog shop off soon', { by: 'state' }],
  ]) assert.equal(choose(rows, look).map((r) => r.name).join(' '), want, JSON.stringify(look));
});

test('values of an alias', () => {
  assert.equal(values({ fallback: 'a.png' })['fallback.broken'], 'a.png');
  assert.equal(values({ fallback: { missing: 'm', broken: 'b' } })['fallback.missing'], 'm');
  assert.equal(values({ fallback: '', ttl: '1h0m0s' }).ttl, '1h0m0s');
});

test('changed and written', () => {
  assert.deepEqual(changed({ a: 1, b: [], c: 'x' }, { a: 1, b: ['y'], c: '' }), { b: ['y'], c: '' });
  assert.deepEqual(written({ a: '', b: [], c: undefined, d: false, e: 'x' }), { d: false, e: 'x' });
});
