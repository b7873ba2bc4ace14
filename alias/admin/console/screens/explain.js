// The steps of a request for a URL, and why a picture is not served.
import { html, useState } from '../preact.js';
import { get, path } from '../api.js';
import { bytes, exact, link, span } from '../format.js';
import { Action, Card, Code, ErrorBox, Facts, Page, Picture, State, Time, useLoad } from '../ui.js';

// asPath makes the path of a URL with its query, percent-encoded, of what people paste: a whole
// URL, with base in front or another host, or a path.
export function asPath(text, base = '') {
  let at = text.trim();
  if (base && at.startsWith(`${base}/`)) at = at.slice(base.length);
  else at = at.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '');
  at = at.split('#')[0];
  if (!at.startsWith('/')) at = `/${at}`;
  return at.replace(/[^!-~]+|["<>\\^`{|}]/g, encodeURIComponent);
}

const age = (e) => (e.ttl < 0 ? `stale for ${span(-e.ttl)}` : `fresh for ${span(e.ttl)} more`);

// way lists the steps of an explanation: {name, kind, text, facts}. kind is good, warn, bad,
// or none for a step that is not reached.
export function way(e) {
  const found = Boolean(e.bucket);
  const badKey = e.status === 400;
  const entry = e.cache && (e.cache.memory || e.cache.disk);
  const answer = e.probe ?? e.key_failure ?? e.last_answer;
  return [
    { name: 'URL', kind: badKey ? 'bad' : 'good', text: badKey ? 'The key is not valid.' : e.path },
    found ? { name: 'Alias', kind: e.credential ? 'good' : 'bad', text: e.alias, facts: [['Bucket', e.bucket], ['Key', e.key], ['Region', e.region], ['Endpoint', e.endpoint || 'AWS']] }
      : { name: 'Alias', kind: badKey ? '' : 'bad', text: e.alias ? `There is no open alias named ${e.alias}.` : 'The path names no alias.' },
    found ? credential(e.credential) : { name: 'Credential' },
    ...(e.session ? [session(e.session)] : []),
    ...(e.transform ? options(e.transform, e.code) : []),
    e.cache ? stored(e.cache, entry) : { name: 'Cache' },
    e.cache ? origin(e, answer) : { name: 'S3' },
    { name: 'Answer', kind: e.status === 200 ? 'good' : e.status === 0 ? 'warn' : 'bad',
      text: e.status === 0 ? 'S3 must be asked first: ask it with a probe.' : `Clients get ${e.status}${e.code ? ` ${e.code}` : ''}.` },
  ];
}

function credential(c) {
  if (c.kind === 'anonymous') return { name: 'Credential', kind: 'good', text: 'Requests are not signed: the bucket is public.' };
  return { name: 'Credential', kind: c.state === 'failed' ? 'bad' : c.state === 'active' ? 'good' : 'warn', text: c.name, facts: [['Kind', c.kind], c.access_key_id && ['Access key id', c.access_key_id], ['State', c.state]].filter(Boolean) };
}

// session is the step of temporary keys, which only some credentials have.
function session(s) {
  const name = 'Session';
  const facts = [['Role', s.role || "none: the server's own credentials"], s.expires_at && ['Expires', html`${exact(s.expires_at)} (<${Time} at=${s.expires_at} />)`]].filter(Boolean);
  if (s.error) return { name, kind: s.expires_at ? 'warn' : 'bad', text: `${s.expires_at ? 'It lives, but the last renewal failed' : 'There is none'}: ${s.error}`, facts };
  return { name, kind: 'good', text: s.expires_at ? 'It signs the requests to S3.' : 'None now: the next request to S3 makes one.', facts };
}

const states = { ok: 'good', none: 'not checked', unknown_kid: 'of an unknown key', bad: 'wrong' };

// options is the step of the query of a URL, if that has something to say.
function options(t, code) {
  const { signature } = t;
  const refused = signature.needed && signature.state !== 'ok';
  const facts = [
    t.template && ['Template', t.template], t.width && ['Width', `${t.width.asked}, rounded up to ${t.width.used}`], t.format && ['Format', t.as_stored ? 'as stored' : t.format],
    (signature.needed || signature.state !== 'none') && ['Signature', `${states[signature.state] ?? signature.state}${signature.kid && `, of ${signature.kid}`}`], signature.expires_at && ['Expires', exact(signature.expires_at)],
    t.cache && ['Variant', t.cache.memory || t.cache.disk ? 'stored' : 'not stored'], t.last_failure && ['Last failure', t.last_failure.error], t.ignored.length > 0 && ['Ignored', t.ignored.join(', ')],
  ].filter(Boolean);
  if (!refused && !t.options && code !== 'bad-option' && !facts.length) return [];
  return [{ name: 'Options', facts, ...(refused ? { kind: 'bad', text: 'They need a good signature.' } : code === 'bad-option' ? { kind: 'bad', text: 'An option is not valid.' }
    : t.off ? { kind: 'warn', text: `They change nothing: ${t.off}.` } : { kind: t.last_failure || t.killed_worker ? 'bad' : 'good', text: t.options || 'None: the stored picture is asked for.' }) }];
}

function stored(c, entry) {
  const name = 'Cache';
  if (entry) {
    return { name, kind: entry.state === 'fresh' ? 'good' : 'warn', text: `In ${c.tier === 'disk' ? 'the disk tier' : 'memory'}, ${age(entry)}.`, facts: [
      ['Size', bytes(entry.size)], ['Type', entry.content_type], ['Age', span(entry.age)], ['Cache-Control', entry.cache_control || 'none'], ['ETag', entry.etag || 'none'],
    ] };
  }
  if (c.missing) return { name, kind: 'bad', text: `Remembered as missing for ${span(c.missing.ttl)} more: ${c.missing.reason}` };
  return { name, kind: 'good', text: c.fetching ? 'Not stored: it is being fetched.' : c.bypass ? 'Not stored: it could not be stored recently.' : 'Not stored: S3 is asked.' };
}

const fine = ['ok', 'not_modified'];

function origin(e, answer) {
  const name = 'S3';
  const circuit = e.circuit && e.circuit.state !== 'closed' ? ` The circuit is ${e.circuit.state}.` : '';
  if (!answer) return { name, kind: circuit ? 'bad' : '', text: `S3 was not asked yet.${circuit}` };
  const good = fine.includes(answer.outcome);
  const what = answer === e.probe ? 'The probe' : answer === e.key_failure ? 'The last failure of this key' : 'The last answer for the alias';
  const about = answer === e.last_answer && answer.key !== e.key ? ', for another key' : '';
  return { name, kind: circuit || !good && answer !== e.last_answer ? 'bad' : good ? 'good' : 'warn', text: `${what}${about}: ${answer.outcome}.${circuit}`, facts: [
    ['Status', answer.status || 'no reply'], answer.s3_code && ['Code', answer.s3_code], answer.s3_message && ['Message', answer.s3_message], answer.cause && ['Cause', answer.cause],
    answer.size > 0 && ['Size', bytes(answer.size)], answer.content_type && ['Type', answer.content_type], answer.checksum && ['Checksum', answer.checksum],
    ['Request id', answer.s3_request_id || 'none'], answer.at && ['At', exact(answer.at)],
    e.canary && e.canary.state !== 'none' && ['Canary', `${e.canary.key}: ${e.canary.state}`],
  ].filter(Boolean) };
}

export default function Explain({ query }) {
  const [typed, setTyped] = useState(query.path || '');
  const [asked, setAsked] = useState({ path: query.path || '', probe: false, turn: 0 });
  const server = useLoad((signal) => get('/server', {}, signal), []);
  const told = useLoad(async (signal) => (asked.path ? get('/explain', { path: asked.path, accept: 'image/avif,image/webp,*/*', probe: asked.probe ? 'true' : '' }, signal) : null), [asked]);
  const ask = (e) => {
    e.preventDefault();
    const at = asPath(typed, server.data?.public_url);
    setTyped(at);
    setAsked({ path: at, probe: false, turn: asked.turn + 1 });
    history.replaceState(null, '', link(['explain'], { path: at }));
  };
  const e = told.data;
  return html`<${Page} title="Explain a URL" lead="Each step that a request for it takes, and what to do if no picture comes.">
    <${Card}><form class="bar" onSubmit=${ask}><div class="field"><label for="explain-url">URL or path</label>
      <input id="explain-url" value=${typed} placeholder="https://images.example.com/shop/a.png" autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(ev) => setTyped(ev.target.value)} /></div>
      <button class="button primary" disabled=${!typed.trim()} aria-busy=${told.loading && asked.path ? 'true' : undefined}>Explain</button>
      <${Action} disabled=${!e} title="Asks S3 for the object, past the cache" onClick=${() => setAsked({ ...asked, probe: true, turn: asked.turn + 1 })}>Probe S3<//></form><//>
    ${told.error && html`<${ErrorBox} error=${told.error} />`}
    ${e && html`<${Told} key=${asked.turn} e=${e} base=${server.data?.public_url} />`}
  <//>`;
}

function Told({ e, base }) {
  const open = e.status === 200;
  return html`
    <div class="box ${open ? '' : e.status === 0 ? 'warn' : 'bad'}" role="status"><p><strong>${e.status === 0 ? 'Not known before S3 is asked' : `Clients get ${e.status}${e.code ? ` ${e.code}` : ''}`}</strong></p><p>${e.remedy}</p></div>
    <div class="columns"><${Card} title="The way of the request"><ol class="way">${way(e).map((s) => html`<li key=${s.name} class=${s.kind || 'none'}>
      <span class="mark" aria-hidden="true">${{ good: '✓', warn: '!', bad: '✕' }[s.kind] ?? '○'}</span>
      <div><p><strong>${s.name}</strong> <span class="visually-hidden">${s.kind || 'not reached'}</span>${s.text && html`<span class="text">${s.text}</span>`}</p>
        ${s.facts && html`<${Facts} of=${s.facts.map(([n, v]) => [n, v === undefined ? '' : v])} />`}</div></li>`)}</ol><//>
    <div class="stack">${e.credential && html`<${Card} title="Links"><ul>
        <li><a href=${link(['aliases', e.alias])}>The alias ${e.alias}</a></li><li><a href=${link(['credentials', e.credential.name])}>The credential ${e.credential.name}</a></li></ul>
        ${base && html`<${Code} text=${base + e.path} />`}<//>`}
      ${open && html`<${Shown} e=${e} />`}
      ${e.last_failure && html`<${Card} title="The last failure of the alias"><${Facts} of=${[
        ['When', html`<${Time} at=${e.last_failure.at} />`], ['Outcome', e.last_failure.outcome], ['Code of S3', e.last_failure.s3_code], ['Key', e.last_failure.key], ['Status', e.last_failure.status || 'no reply'],
      ]} />${e.last_failure.s3_message && html`<p>${e.last_failure.s3_message}</p>`}<//>`}
      ${e.circuit && html`<${Card} title="Circuit and canary"><${Facts} of=${[
        ['Circuit', html`<${State} of=${e.circuit.state} />`], ['Failures in a row', e.circuit.failures], e.circuit.retry_in > 0 && ['Next try in', span(e.circuit.retry_in)],
        e.canary && ['Canary', html`${e.canary.key || 'none'} <${State} of=${e.canary.state === 'none' ? '' : e.canary.state} />`], e.canary?.checked_at && ['Checked', html`<${Time} at=${e.canary.checked_at} />`],
      ]} /><//>`}</div></div>`;
}

// Shown is the picture. Its key is the path after the alias.
function Shown({ e }) {
  const [at, asked] = e.path.split(/\?(.*)/s);
  let key;
  try {
    key = decodeURIComponent(at.split('/').slice(2).join('/'));
  } catch {
    return null;
  }
  return html`<${Card} title="The picture"><div class="frame-picture"><${Picture} path=${path`/aliases/${e.alias}/picture`} query=${{ key, query: asked }} alt=${`The picture ${key}`} /></div><//>`;
}
