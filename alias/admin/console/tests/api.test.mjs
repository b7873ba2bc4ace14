import assert from 'node:assert/strict';
import test from 'node:test';
import { call, get, onSignedOut, pages, Problem, signedIn } from '../api.js';

// serve replaces fetch by a function of the request that returns [status, body, headers].
function serve(answer) {
  const seen = [];
  globalThis.fetch = async (address, init) => {
    seen.push({ address, ...init });
    const [status, body, headers] = answer(address, init);
    return new Response(body === undefined || status === 204 ? null : JSON.stringify(body), { status, headers });
  };
  return seen;
}

test('a call sends what the API wants', async () => {
  const seen = serve(() => [200, { name: 'shop' }, { ETag: '"3"', Location: '/x' }]);
  const answer = await call('PATCH', '/aliases/shop', { body: { ttl: '1h' }, match: '"2"', wait: 5 });
  assert.deepEqual(answer, { data: { name: 'shop' }, etag: '"3"', status: 200, location: '/x' });
  const [{ address, method, headers, body, credentials }] = seen;
  assert.deepEqual([address, method, body, credentials], ['/api/v1/aliases/shop', 'PATCH', '{"ttl":"1h"}', 'same-origin']);
  assert.deepEqual(headers, { 'X-Ixmage-Console': '1', Accept: 'application/json', 'Content-Type': 'application/json', 'If-Match': '"2"', Prefer: 'wait=5' });
});

test('a refusal is a Problem', async () => {
  serve(() => [429, { type: 'https://ixmage.dev/problems/wrong-tokens', title: 'T', detail: 'D', request_id: 'I', errors: [{ field: 'f', detail: 'd' }] }, { 'Retry-After': '42' }]);
  await assert.rejects(get('/aliases'), (e) => e instanceof Problem && e.status === 429 && e.code === 'wrong-tokens' && e.message === 'D' && e.retryAfter === 42 && e.errors[0].field === 'f' && e.requestId === 'I');
});

test('a server that is away, and an answer that is no JSON', async () => {
  globalThis.fetch = async () => { throw new TypeError('fetch failed'); };
  await assert.rejects(get('/aliases'), { status: 0, title: 'The server does not answer' });
  globalThis.fetch = async () => new Response('<html>', { status: 502 });
  await assert.rejects(get('/aliases'), { status: 502, title: 'The answer is not JSON' });
});

test('calls of an ended session wait for the next sign-in', async () => {
  let valid = false;
  let asked = 0;
  serve(() => (valid ? [200, { ok: true }] : [401, {}]));
  onSignedOut(() => { asked++; });
  const both = Promise.all([get('/a'), get('/b')]);
  await new Promise(setImmediate);
  valid = true;
  signedIn();
  assert.deepEqual(await both, [{ ok: true }, { ok: true }]);
  assert.equal(asked, 1);
  valid = false;
  await assert.rejects(get('/session'), { status: 401 }); // the sign-in itself does not wait
});

test('pages reads until a page is not full', async () => {
  const all = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name }));
  const seen = serve((address) => {
    const q = new URL(address, 'http://x').searchParams;
    return [200, { aliases: all.filter((x) => x.name > (q.get('after') ?? '')).slice(0, q.get('limit')) }];
  });
  const lists = [];
  for await (const list of pages('/aliases', 'aliases', { limit: 2 })) lists.push(list.map((x) => x.name).join(''));
  assert.deepEqual(lists, ['ab', 'cd', 'e']);
  assert.deepEqual(seen.map((s) => s.address), ['/api/v1/aliases?limit=2', '/api/v1/aliases?limit=2&after=b', '/api/v1/aliases?limit=2&after=d']);
});
