import assert from 'node:assert/strict';
import test from 'node:test';
import { choose } from '../screens/audit.js';
import { order } from '../screens/cache.js';
import { asPath, way } from '../screens/explain.js';
import { clock } from '../screens/nodes.js';
import { merge } from '../screens/operations.js';
import { request, split } from '../screens/provision.js';
import { expiry } from '../screens/tokens.js';

test('asPath', () => {
  for (const [want, ...args] of [
    ['/shop/a.png?v=1&w=%22', 'https://images.example.com/shop/a.png?v=1&w="#x'], ['/shop/a.png', ' shop/a.png '], ['/shop/a%20b/%C3%A9.png', '/shop/a b/é.png'],
    ['/shop/100%25.png', '/shop/100%25.png'], ['/shop/a.png', 'https://cdn.example.com/img/shop/a.png', 'https://cdn.example.com/img'], ['/', 'https://images.example.com'],
    ['/shop/%22%3C.png', '/shop/"<.png'], ['/shop/../a', 'http://127.0.0.1:8080/shop/../a'],
  ]) assert.equal(asPath(...args), want, JSON.stringify(args));
});

const kinds = (e) => way(e).map((s) => `${s.name} ${s.kind ?? ''}`.trim()).join(', ');
const found = { path: '/shop/a.png', alias: 'shop', bucket: 'media', key: 'web/a.png', status: 200, code: '', credential: { name: 'shop', kind: 'static', state: 'active' },
  circuit: { state: 'closed' }, canary: { state: 'none' }, cache: { tier: '' } };

test('way', () => {
  const entry = { state: 'fresh', ttl: 60, age: 1, size: 5, content_type: 'image/png' };
  const failed = { outcome: 'denied', status: 403, key: 'web/a.png' };
  for (const [want, e] of [
    ['URL bad, Alias, Credential, Cache, S3, Answer bad', { path: '/a/../b', alias: '', status: 400, code: 'bad-key' }],
    ['URL good, Alias bad, Credential, Cache, S3, Answer bad', { path: '/no/a', alias: 'no', status: 404, code: 'not-found' }],
    ['URL good, Alias good, Credential good, Cache good, S3, Answer good', { ...found, cache: { tier: 'memory', memory: entry } }],
    ['URL good, Alias good, Credential good, Cache warn, S3, Answer good', { ...found, cache: { tier: 'disk', disk: { ...entry, state: 'stale', ttl: -5 } } }],
    ['URL good, Alias good, Credential good, Cache good, S3 bad, Answer bad', { ...found, status: 404, probe: failed }],
    ['URL good, Alias good, Credential good, Cache good, S3 warn, Answer warn', { ...found, status: 0, last_answer: { ...failed, key: 'other' } }],
    ['URL good, Alias good, Credential bad, Cache bad, S3 bad, Answer bad', { ...found, status: 404, credential: { name: 'shop', kind: 'provisioned', state: 'failed' },
      cache: { tier: 'missing', missing: { ttl: 3, reason: 'gone' } }, key_failure: failed }],
    ['URL good, Alias good, Credential good, Cache good, S3 bad, Answer bad', { ...found, status: 503, circuit: { state: 'open' }, last_answer: { outcome: 'ok', key: 'web/a.png' } }],
    ['URL good, Alias good, Credential good, Session good, Cache good, S3, Answer good', { ...found, session: { role: 'arn:aws:iam::1:role/a', expires_at: '2026-11-29T18:30:00Z' } }],
    ['URL good, Alias good, Credential good, Session good, Cache good, S3, Answer good', { ...found, session: { expires_at: null } }],
    ['URL good, Alias good, Credential good, Session warn, Cache good, S3, Answer good', { ...found, session: { expires_at: '2026-11-29T18:30:00Z', error: 'STS is away' } }],
    ['URL good, Alias good, Credential good, Session bad, Cache good, S3, Answer bad', { ...found, status: 503, session: { expires_at: null, error: 'STS refuses' } }],
  ]) assert.equal(kinds(e), want);
});

test('options', () => {
  const t = { off: '', signature: { needed: false, state: 'none', kid: '' }, options: 'w=250', template: '', width: { asked: 200, used: 250 }, ignored: ['v'], format: 'webp', cache: null };
  const step = (more, code = '') => way({ ...found, code, transform: { ...t, ...more } }).find((s) => s.name === 'Options');
  assert.deepEqual(step({}), { name: 'Options', kind: 'good', text: 'w=250', facts: [['Width', '200, rounded up to 250'], ['Format', 'webp'], ['Ignored', 'v']] });
  assert.equal(step({ signature: { needed: true, state: 'expired', kid: '' } }).kind, 'bad');
  assert.equal(step({ options: '' }, 'bad-option').text, 'An option is not valid.');
  assert.equal(step({ off: "the alias's transforms are off" }).kind, 'warn');
  assert.equal(step({ options: '', width: null, ignored: [], format: '' }), undefined);
  assert.deepEqual(step({ signature: { needed: true, state: 'ok', kid: 'k1', expires_at: '2026-11-29T18:30:00Z' }, width: null, ignored: [] }).facts, [['Format', 'webp'], ['Signature', 'good, of k1'], ['Expires', '2026-11-29T18:30:00Z']]);
});

test('clock', () => {
  for (const [want, offset] of [['in time', '0s'], ['in time', '-12ms'], ['in time', '1.5ms'], ['1.204s fast', '1.204s'], ['2m3s slow', '-2m3s'], ['1h0m0s fast', '1h0m0s']]) assert.equal(clock(offset), want);
});

test('request of a provisioning', () => {
  assert.deepEqual(request({ alias: 'shop', prefix: '', 'probe.inside': 'a.png', 'probe.outside': '', way: 'new', policy: 'inline', tags: ['team=web=1', '', 'x'] }),
    { alias: 'shop', probe: { inside: 'a.png' }, policy: 'inline', tags: { team: 'web=1', x: '' } });
  assert.deepEqual(request({ alias: 'shop', way: 'reuse', policy: '' }), { alias: 'shop', credential: '' });
  assert.deepEqual(request({ way: 'adopt', adopt: 'u', retire: true }), { adopt: 'u', retire: true });
});

test('split parts problems', () => {
  const { wrong, missing } = split([{ field: 'alias', detail: 'x' }, { field: 'bucket', detail: 'y' }, { field: 'probe.inside', detail: 'z' }], { alias: 'A', bucket: '', 'probe.inside': 'q' });
  assert.deepEqual([wrong.map((p) => p.field), missing], [['alias', 'probe.inside'], ['bucket']]);
});

test('lists', () => {
  assert.deepEqual(choose([{ actor: 'admin', action: 'iam:CreateUser' }, { actor: 'deploy', action: 'purge' }], 'CREATE admin').length, 1);
  assert.deepEqual(merge([{ id: 'b', n: 1 }, { id: 'a' }], [{ id: 'c' }, { id: 'b', n: 2 }]), [{ id: 'c' }, { id: 'b', n: 2 }, { id: 'a' }]);
  const list = [{ alias: 'a', bytes: 1, evictions: { own: 2 } }, { alias: 'b', bytes: 3, evictions: { own: 1 } }];
  assert.equal(order(list, { by: 'bytes', down: true })[0].alias, 'b');
  assert.equal(order(list, { by: 'own' })[0].alias, 'b');
  assert.equal(order(list, { by: 'alias' })[0].alias, 'a');
});

test('expiry', () => {
  assert.equal(expiry('', 0), null);
  assert.equal(expiry('7', 0), '1970-01-08T00:00:00Z');
});
