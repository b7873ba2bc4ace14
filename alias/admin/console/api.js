// The HTTP API of the admin listener, by the cookie of the session.

// Problem is an error answer of the API, or a server that does not answer (status 0).
export class Problem extends Error {
  constructor(status, body = {}, retryAfter = 0) {
    super(body.detail || body.title || `the server answered with status ${status}`);
    this.status = status;
    this.code = (body.type || '').split('/').pop();
    this.title = body.title || 'The call failed';
    this.errors = body.errors || []; // [{field, detail}]
    this.commands = body.commands || [];
    this.requestId = body.request_id || '';
    this.retryAfter = retryAfter; // seconds
  }
}

const base = '/api/v1';
let ask = () => {};
let renewal = null; // of the session: {promise, resolve} while calls wait for it

// onSignedOut sets what runs when the API no longer accepts the session. Calls that it
// refused wait for signedIn, and are then sent again.
export function onSignedOut(run) { ask = run; }

export function signedIn() {
  renewal?.resolve();
  renewal = null;
}

function renewed() {
  if (!renewal) {
    renewal = {};
    renewal.promise = new Promise((resolve) => { renewal.resolve = resolve; });
    ask();
  }
  return renewal.promise;
}

// url makes the address of a call. Values of query that are null, undefined or '' are
// left out; parts of the path are encoded by the caller, with path`…`.
export function url(at, query = {}) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value != null && value !== '') q.set(name, value);
  return base + at + (q.size ? `?${q}` : '');
}

// path`/aliases/${name}` encodes each value as one segment.
export const path = (texts, ...values) => texts.reduce((all, text, i) => all + encodeURIComponent(values[i - 1]) + text);

// call sends a request and returns {data, etag, status, location}. It throws a Problem.
// match is the ETag for If-Match, wait the seconds for Prefer.
export async function call(method, at, { body, query, match, wait, signal } = {}) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (match) headers['If-Match'] = match;
  if (wait) headers.Prefer = `wait=${wait}`;
  const { answer, blob } = await send(method, at, { query, signal, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  return { data: await json(answer, blob), etag: answer.headers.get('ETag'), status: answer.status, location: answer.headers.get('Location') };
}

// pictureAnswer reads a picture: {source: its data: address, the only one besides the own files
// that the policy of the page allows; bytes; type; cache: the Cache-Status of the public
// listener; ms: its time to the first byte, or null}. accept is the header of a browser.
export async function pictureAnswer(at, { query, accept, signal } = {}) {
  const { answer, blob } = await send('GET', at, { query, signal, headers: accept && { Accept: accept } });
  const source = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  const time = /dur=([0-9.]+)/.exec(answer.headers.get('Server-Timing'));
  return { source, bytes: blob.size, type: blob.type, cache: answer.headers.get('Cache-Status') ?? '', ms: time && Number(time[1]) };
}

// picture is the data: address of a picture.
export const picture = async (at, options) => (await pictureAnswer(at, options)).source;

// send returns a good answer with its body, and throws a Problem for every other.
async function send(method, at, { query, signal, headers, body }) {
  let answer, blob;
  try {
    answer = await fetch(url(at, query), {
      method, signal, body, headers: { 'X-Ixmage-Console': '1', ...headers }, credentials: 'same-origin', cache: 'no-store', redirect: 'error',
    });
    blob = await answer.blob();
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Problem(0, {
      title: 'The server does not answer',
      detail: 'The admin listener could not be reached. Check that ixmage runs and that your connection or tunnel to it is open.',
    });
  }
  if (answer.ok) return { answer, blob };
  if (answer.status === 401 && at !== '/session') {
    await renewed();
    return send(method, at, { query, signal, headers, body });
  }
  throw new Problem(answer.status, (await json(answer, blob)) ?? {}, Number(answer.headers.get('Retry-After')) || 0);
}

async function json(answer, blob) {
  try {
    return blob.size ? JSON.parse(await blob.text()) : null;
  } catch {
    throw new Problem(answer.status, { title: 'The answer is not JSON', detail: 'A proxy between this page and ixmage changed the answer.' });
  }
}

// get returns the body of a GET.
export const get = async (at, query, signal) => (await call('GET', at, { query, signal })).data;

// pages yields the lists of a paged call: member is the list in the answer, name the
// member of an element that after takes.
export async function* pages(at, member, { name = 'name', limit = 1000, query = {}, signal } = {}) {
  for (let after = ''; ;) {
    const list = (await get(at, { ...query, limit, after }, signal))[member];
    if (list.length) yield list;
    if (list.length < limit) return;
    after = list.at(-1)[name];
  }
}

// events follows a stream of server-sent events named name until the server ends it or
// the returned function is called. done gets true if the stream broke.
export function events(at, name, receive, done = () => {}) {
  const source = new EventSource(base + at);
  source.addEventListener(name, (e) => receive(JSON.parse(e.data)));
  source.onerror = () => {
    const broken = source.readyState === EventSource.CLOSED;
    source.close(); // without this the browser connects again after the last event
    done(broken);
  };
  return () => source.close();
}
