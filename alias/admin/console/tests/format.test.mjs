import assert from 'node:assert/strict';
import test from 'node:test';
import * as f from '../format.js';
import { path, url } from '../api.js';

// rows checks a function: [want, ...arguments].
const rows = (name, run, list) => test(name, () => {
  for (const [want, ...args] of list) assert.deepEqual(run(...args), want, `${name}(${args.map((a) => JSON.stringify(a)).join(', ')})`);
});

rows('bytes', f.bytes, [['0 B', 0], ['1023 B', 1023], ['1.00 KiB', 1024], ['1.50 KiB', 1536], ['10.0 KiB', 10240], ['100 KiB', 102400],
  ['1.00 MiB', 1048575], ['2.00 GiB', 2 ** 31], ['4096 PiB', 2 ** 62]]);
rows('count', f.count, [['0', 0], ['999', 999], ['1k', 1000], ['1.2k', 1234], ['48.2k', 48210], ['123k', 123456], ['1M', 999999], ['3.1M', 3.1e6], ['2G', 2e9]]);
rows('plural', f.plural, [['0 pictures', 0, 'picture'], ['1 picture', 1, 'picture'], ['10,000 pictures', 10000, 'picture']]);
rows('percent', f.percent, [['–', null], ['0 %', 0], ['50 %', 0.5], ['>99 %', 0.9999], ['100 %', 1]]);
rows('span', f.span, [['0 s', 0], ['59 s', 59.9], ['1 min', 60], ['23 h', 86399], ['1 d', 86400], ['1 mo', 2592000], ['2 y', 63072000]]);
rows('ago', f.ago, [['now', 1000, 3000], ['5 s ago', 0, 5000], ['in 2 h', 7200000, 0], ['3 d ago', 0, 3 * 86400000]]);
rows('elapsed', f.elapsed, [['0.0 s', -5], ['0.4 s', 400], ['12 s', 12400], ['2 min 5 s', 125900]]);
rows('exact', f.exact, [['2026-02-03T04:05:06Z', '2026-02-03T04:05:06.000007Z'], ['2026-02-03T03:05:06Z', '2026-02-03T04:05:06+01:00']]);

const point = (requests, hit, collapsed) => ({ spent: { requests, bytes: 0 }, saved: { hit: { requests: hit }, collapsed: { requests: collapsed } } });
rows('hitRatio', f.hitRatio, [[null, point(0, 0, 0)], [0.75, point(1, 2, 1)], [0, point(3, 0, 0)]]);

rows('line', f.line, [['', [], 10, 10], ['0,10 0,10', [0], 10, 10], ['10,0 10,0', [null, 3], 10, 10], ['0,10 5,0 10,5', [0, 2, 1], 10, 10], ['0,0 10,5', [2, null, 1], 10, 10],
  ['0,10 10,7.5', [0, 1], 10, 10, 4]]);

test('slots has a value for each hour', () => {
  const now = Date.parse('2026-02-03T04:30:00Z');
  const series = [{ at: '2026-02-03T02:00:00Z', n: 5 }, { at: '2026-02-03T04:00:00Z', n: 7 }, { at: '2026-02-01T04:00:00Z', n: 9 }];
  assert.deepEqual(f.slots(series, 4, now, f.hour, (p) => p?.n ?? 0), [0, 5, 0, 7]);
  assert.deepEqual(f.slots([], 2, now, f.day, (p, at) => new Date(at).toISOString().slice(0, 10)), ['2026-02-02', '2026-02-03']);
});

test('total', () => {
  const p = { spent: { requests: 2, bytes: 10 }, saved: { hit: { requests: 5, bytes: 100 }, collapsed: { requests: 1, bytes: 20 } } };
  assert.deepEqual(f.total([p, p]), { requests: 16, spared: 12, bytes: 20, sparedBytes: 240 });
});

rows('route', f.route, [
  [{ path: [], query: {} }, ''],
  [{ path: ['aliases', 'shop'], query: {} }, '#/aliases/shop'],
  [{ path: ['a/b', 'ü?'], query: { path: '/shop/a b?c' } }, '#/a%2Fb/%C3%BC%3F?path=%2Fshop%2Fa%20b%3Fc'],
  [{ path: ['%zz'], query: {} }, '#/%zz'],
]);

test('link is the reverse of route', () => {
  for (const [p, q] of [[['aliases'], {}], [['orphans', 'a/b?c#d'], { path: '/shop/ä&b=c%20' }], [['a b'], { n: '0' }]]) {
    assert.deepEqual(f.route(f.link(p, q)), { path: p, query: q });
  }
  assert.equal(f.link(['a'], { none: '', nil: null }), '#/a');
});

test('find', () => {
  const routes = [{ pattern: 'aliases' }, { pattern: 'aliases/:name' }, { pattern: 'aliases/:name/edit' }];
  assert.equal(f.find(routes, ['aliases']).pattern, 'aliases');
  assert.deepEqual(f.find(routes, ['aliases', 'shop']).params, { name: 'shop' });
  assert.deepEqual(f.find(routes, ['aliases', 'shop', 'edit']).params, { name: 'shop' });
  assert.equal(f.find(routes, ['none']), null);
  assert.equal(f.find(routes, ['aliases', 'shop', 'other']), null);
});

test('nest makes objects of names with dots', () => {
  assert.deepEqual(f.nest({ a: 1, 'b.c': 2, 'b.d': 3 }), { a: 1, b: { c: 2, d: 3 } });
});

test('addresses of calls', () => {
  assert.equal(path`/aliases/${'a/b'}/usage`, '/aliases/a%2Fb/usage');
  assert.equal(url('/aliases', { limit: 5, after: '', none: null }), '/api/v1/aliases?limit=5');
});
