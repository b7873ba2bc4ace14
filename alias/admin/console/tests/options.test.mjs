import assert from 'node:assert/strict';
import test from 'node:test';
import { encode, option, unsigned, urlPath, withOption } from '../options.js';
import { facts } from '../preview.js';
import { signRequest } from '../screens/signing.js';

test('encode', () => {
  for (const [want, text] of [['w=240&fit=cover', ' ?w=240&fit=cover& '], ['bg=%2300ff00', 'bg=#00ff00'], ['bg=%23fff', 'bg=%23fff'], ['wm=a%20b/%C3%A9.png', 'wm=a b/é.png'], ['', '?'], ['t=%3Cb%3E', 't=<b>']]) {
    assert.equal(encode(text), want, text);
  }
});

test('option', () => {
  for (const [want, query, name] of [['240', 'w=240&h=1', 'w'], ['240', 'width=240', 'w'], ['', 'wx=1', 'w'], ['0.5,0.3', 'gravity=0.5%2C0.3', 'gravity'], ['', 'w', 'w'], ['a=b', 't=a=b', 't'], ['%zz', 't=%zz', 't']]) {
    assert.equal(option(query, name), want, query);
  }
});

test('withOption', () => {
  for (const [want, query, name, value] of [
    ['w=1', '', 'w', '1'], ['w=2&h=3', 'w=1&h=3', 'w', '2'], ['h=3', 'w=1&h=3', 'w', ''], ['h=3&w=2', 'h=3', 'w', '2'], ['w=2&h=3', 'width=1&h=3&w=9', 'w', '2'],
    ['gravity=0.5,0.3', '', 'gravity', '0.5,0.3'], ['t=a%26b', '', 't', 'a&b'], ['v=1&w=2', '&v=1&', 'w', '2'],
  ]) assert.equal(withOption(query, name, value), want, `${query} ${name}=${value}`);
});

test('unsigned', () => {
  const widths = [100, 200];
  const templates = { transforms: 'templates', access: 'open', widths };
  for (const [want, query, a] of [
    [{ free: true }, 'w=100', templates], [{ free: true, width: 200 }, 'w=101', templates], [{ free: false }, 'w=201', templates], [{ free: true, width: 200 }, 't=thumb&width=150&utm_source=x', templates],
    [{ free: false }, 'w=100&h=1', templates], [{ free: true }, 'v=2', templates], [{ free: false }, 't=thumb', { ...templates, transforms: 'signed' }], [{ free: true }, '', { ...templates, transforms: 'signed' }],
    [{ free: true }, 'blur=3', { ...templates, transforms: 'open' }], [{ free: false }, '', { ...templates, access: 'signed' }], [{ free: false }, 'grey=1', templates], [{ free: true }, 'grey=1', { ...templates, transforms: 'off' }],
  ]) assert.deepEqual(unsigned(query, a), want, `${query} ${a.transforms} ${a.access}`);
});

test('facts of a picture', () => {
  const than = { bytes: 1000, type: 'image/png', cache: '', ms: 1 };
  assert.deepEqual(facts({ bytes: 250, type: 'image/webp', cache: 'ixmage; fwd=miss', ms: 12.4 }, [240, 160], than), ['240 × 160', '250 B', 'webp', '75 % smaller', '13 ms']);
  assert.deepEqual(facts({ bytes: 1000, type: 'image/webp', cache: 'ixmage; fwd=miss', ms: 1899.1 }, null, than), ['1000 B', 'webp', '1900 ms']);
  assert.deepEqual(facts({ bytes: 1500, type: 'image/png', cache: 'ixmage; hit; ttl=3', ms: 0.2 }, null, than), ['1.46 KiB', 'png', '50 % larger', '1 ms, from the cache']);
  assert.deepEqual(facts(than, [1, 2]), ['1 × 2', '1000 B', 'png']);
});

test('urls', () => {
  assert.equal(urlPath('shop', 'a b/é?.png', ''), '/shop/a%20b/%C3%A9%3F.png');
  assert.deepEqual(signRequest('shop', { path: 'a.png', query: '?w=1', expires: '1h' }), { path: '/shop/a.png?w=1', expires_in: '1h' });
  assert.deepEqual(signRequest('shop', { path: 'a.png', query: '', expires: '' }), { path: '/shop/a.png' });
});
