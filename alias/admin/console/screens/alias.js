// One alias: its location, usage and scope checks, and the actions on it.
import { html, useEffect, useState } from '../preact.js';
import { AliasTabs } from '../alias_tabs.js';
import { call, get, path } from '../api.js';
import { bytes, count, day, exact, hour, link, location as covers, percent, plural, served, slots, spared, total } from '../format.js';
import { Verdicts } from '../operation_view.js';
import { Action, Badge, Bars, Card, Code, Confirm, Facts, Form, Loaded, Page, Picture, State, Time, change, toast, useLoad } from '../ui.js';
import { Rotate } from './credential.js';

export default function Alias({ params: { name } }) {
  const alias = useLoad((signal) => call('GET', path`/aliases/${name}`, { signal }), [name]);
  const credential = useLoad(async (signal) => (alias.data ? get(path`/credentials/${alias.data.data.credential}`, {}, signal) : null), [alias.data?.data.credential]);
  const closed = alias.data && alias.data.data.state !== 'active';
  useEffect(() => { // an alias that is provisioned opens soon
    const timer = closed && setInterval(alias.reload, 3000);
    return () => clearInterval(timer);
  }, [closed]);
  const server = useLoad((signal) => get('/server', {}, signal), []);
  return html`<${Loaded} of=${alias} what="the alias" title=${name}>${({ data: a }) => html`
    <${Head} alias=${alias} a=${a} provisioned=${credential.data?.kind === 'provisioned'} />
    <${AliasTabs} name=${name} current="Overview" />
    <div class="columns">
      <${Overview} a=${a} credential=${credential.data} base=${server.data?.public_url} />
      <${TestPicture} a=${a} />
    </div>
    <${Usage} name=${name} />
    <${Checks} a=${a} onVerified=${credential.reload} />
    <div class="columns"><${Purge} name=${name} /><${Explain} a=${a} /></div>`}<//>`;
}

function Head({ alias, a, provisioned }) {
  const [asking, setAsking] = useState('');
  const close = () => setAsking('');
  const enable = async () => {
    const answer = await change(alias, 'PATCH', path`/aliases/${a.name}`, { enabled: !a.enabled });
    alias.set(answer);
    toast(answer.data.enabled ? `${a.name} is enabled` : `${a.name} is disabled: every key is 404`);
  };
  const remove = async () => {
    await change(alias, 'DELETE', path`/aliases/${a.name}`);
    toast(`Alias ${a.name} removed`);
    location.hash = link(['aliases']);
  };
  return html`<${Page} title=${a.name} lead=${covers(a)} actions=${html`
      <${Action} role="alias" href=${link(['aliases', a.name, 'edit'])}>Change<//>
      <${Action} role="alias" onClick=${enable}>${a.enabled ? 'Disable' : 'Enable'}<//>
      ${provisioned && html`<${Action} role="provision" onClick=${() => setAsking('rotate')}>Rotate the key<//>`}
      <${Action} role="alias" kind="danger" onClick=${() => setAsking('remove')}>Remove<//>`} />
    ${a.state !== 'active' && html`<div class="box ${a.state === 'failed' ? 'bad' : ''}"><p>The alias is closed: its state is <${State} of=${a.state} />.${' '}
      <a href=${link(['operations'], { alias: a.name })}>See its operations</a>.</p></div>`}
    ${asking === 'rotate' && html`<${Rotate} name=${a.credential} onClose=${close} />`}
    ${asking === 'remove' && html`<${Confirm} title=${`Remove the alias ${a.name}?`} word=${a.name} action="Remove the alias" onConfirm=${remove} onClose=${close}>
      <p>Its URLs are 404 at once, and its cached pictures and usage are dropped. The bucket is not touched. The credential ${a.credential} is removed too if it is a key pair or a role,
      has the alias's name and no other alias uses it; a provisioned one stays, and can be removed under Credentials.</p><//>`}`;
}

const transforms = { off: 'off', templates: 'templates and widths', signed: 'signed URLs only', open: 'every option' };

function Overview({ a, credential, base }) {
  const c = credential;
  return html`<${Card} title="Overview"><${Facts} of=${[
    ['State', a.enabled ? html`<${State} of=${a.state} />` : html`<${Badge}>disabled<//>`],
    ['Scope of the key', c?.kind === 'anonymous' ? 'no key: the bucket is public' : html`<${State} of=${c?.scope} />`],
    ['Credential', html`<a href=${link(['credentials', a.credential])}>${a.credential}</a>${c && ` (${c.kind})`}`],
    c?.access_key_id && ['Age of the key', html`<${Time} at=${c.rotated_at || c.created_at} />`],
    c?.role_arn && ['Role', html`<code>${c.role_arn}</code>${c.session_policy === 'none' && html` <${Badge} kind="warn">no session policy<//>`}`],
    ['Bucket', a.bucket], ['Prefix', a.prefix || 'none: the whole bucket'], ['Region', a.region],
    ['Endpoint', a.endpoint || 'AWS'], a.bucket_owner && ['Bucket owner', a.bucket_owner],
    ['Canary', a.canary], ['TTL', a.ttl], a.cache_control && ['Cache-Control', a.cache_control],
    a.cors_origins.length > 0 && ['CORS origins', a.cors_origins.join(', ')],
    (a.cache_min || a.cache_max) && ['Share of the cache', `minimum ${a.cache_min || 'none'}, maximum ${a.cache_max || 'none'}`],
    ['Transforms', transforms[a.transforms]], a.access === 'signed' && ['Access', 'signed URLs only'],
    ['Registered', html`<${Time} at=${a.created_at} />`], ['Changed', html`<${Time} at=${a.updated_at} /> (revision ${a.revision})`],
  ]} />
  ${base && html`<div><p class="muted">Public URL</p><${Code} text=${`${base}/${a.name}/${encodeURI(a.canary || 'KEY')}`} /></div>`}<//>`;
}

function TestPicture({ a }) {
  const [typed, setTyped] = useState(a.canary);
  const [key, setKey] = useState(a.canary);
  const [problem, setProblem] = useState(null);
  const test = (e) => {
    e.preventDefault();
    setProblem(null);
    setKey(typed);
  };
  return html`<${Card} title="Test a picture">
    <form class="bar" onSubmit=${test}><div class="field"><label for="test-key">Key</label>
      <input id="test-key" value=${typed} placeholder="logos/a.png" autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(e) => setTyped(e.target.value)} /></div>
      <button class="button" disabled=${!typed}>Show</button></form>
    ${key ? html`<div class="frame-picture" key=${key}><${Picture} path=${path`/aliases/${a.name}/picture`} query=${{ key }} alt=${`The picture ${key}`} onProblem=${setProblem} /></div>
      ${problem && html`<p><a href=${explain(a.name, key)}>Explain why</a></p>`}`
      : html`<p class="muted">The path after the alias, as in the URL but decoded. The picture is fetched as a client of the public listener would get it.</p>`}<//>`;
}

const explain = (name, key) => link(['explain'], { path: `/${name}/${key.split('/').map(encodeURIComponent).join('/')}` });

const ranges = {
  day: ['Last day', 'hour', 24, hour],
  days: ['Last 3 days', 'hour', 72, hour],
  month: ['Last 30 days', 'day', 30, day],
  quarter: ['Last 90 days', 'day', 90, day],
};

function Usage({ name }) {
  const [range, setRange] = useState('day');
  const [unit, setUnit] = useState('requests');
  const [title, by, n, size] = ranges[range];
  const usage = useLoad((signal) => get(path`/aliases/${name}/usage`, { by, last: n }, signal), [name, range]);
  const pick = (label, value, set, options) => html`<label class="pick">${label} <select value=${value} onChange=${(e) => set(e.target.value)}>${
    options.map(([v, t]) => html`<option value=${v} selected=${v === value}>${t}</option>`)}</select></label>`;
  return html`<${Card} title="Usage" actions=${html`${pick('Time', range, setRange, Object.entries(ranges).map(([v, [t]]) => [v, t]))}
      ${pick('Show', unit, setUnit, [['requests', 'Requests'], ['bytes', 'Bytes']])}`}>
    <${Loaded} of=${usage} what="the usage">${(u) => {
      const points = slots(u.series ?? [], n, Date.now(), size, (p, at) => ({ p, at }));
      const sum = total(points.flatMap(({ p }) => (p ? [p] : [])));
      const read = unit === 'bytes' ? (p) => [p.saved.hit.bytes + p.saved.collapsed.bytes, p.spent.bytes] : (p) => [spared(p), served(p) - spared(p)];
      const bars = points.map(({ p, at }) => ({ label: exact(at).slice(0, by === 'day' ? 10 : 16).replace('T', ' '), values: p ? read(p) : [0, 0] }));
      return html`<${Facts} of=${[
        ['Requests', count(sum.requests)], ['Hit ratio', percent(sum.requests ? sum.spared / sum.requests : null)], ['From S3', bytes(sum.bytes)], ['From the cache', bytes(sum.sparedBytes)],
        ['Counted since', html`<${Time} at=${u.since} />`]]} />
        ${sum.requests === 0 && sum.bytes === 0 ? html`<p class="muted">No requests in this time.</p>` : html`<${Bars} label=${`${title} (UTC)`} bars=${bars} names=${['from the cache', 'from S3']} format=${unit === 'bytes' ? bytes : count} />`}`;
    }}<//><//>`;
}

function Checks({ a, onVerified }) {
  const [given, setGiven] = useState({});
  const last = useLoad((signal) => get(path`/aliases/${a.name}/verification`, {}, signal).catch((err) => {
    if (err.status === 404) return { checks: [] };
    throw err;
  }), [a.name]);
  const verify = async () => {
    const probe = Object.fromEntries(Object.entries(given).filter(([, v]) => v));
    const body = Object.keys(probe).length ? { probe } : undefined;
    const { data } = await call('POST', path`/aliases/${a.name}/verify`, { body });
    last.set(data);
    onVerified();
    toast(`Scope ${data.scope}`, data.scope === 'violated' || data.scope === 'not-proven' ? 'bad' : 'good');
  };
  const field = (name, label, placeholder) => html`<div class="field"><label for=${`probe-${name}`}>${label}</label>
    <input id=${`probe-${name}`} value=${given[name] || ''} placeholder=${placeholder} autocomplete="off" spellcheck=${false} onInput=${(e) => setGiven({ ...given, [name]: e.target.value })} /></div>`;
  return html`<${Card} title="What the key can do" actions=${html`<${Action} role="alias provision" onClick=${verify}>Verify now<//>`}>
    <${Loaded} of=${last} what="the last verification">${(v) => (v.checks.length === 0 ? html`<p class="muted">Not verified yet. Verify checks which objects the key can read and which it cannot.</p>` : html`<${Verdicts} of=${v} />`)}<//>
    <details><summary>Try certain objects</summary><div class="fields">${field('inside', 'Key in the bucket that it must read', `${a.prefix}a.jpg`)}
      ${field('outside', 'Key in the bucket that it must not read', 'private/b.jpg')}</div></details><//>`;
}

function Purge({ name }) {
  const [result, setResult] = useState(null);
  const [asking, setAsking] = useState(null);
  const fields = [
    { name: 'what', label: 'What', type: 'select', options: [{ value: 'key', label: 'one picture' }, { value: 'prefix', label: 'all with a prefix' }, { value: 'all', label: 'the whole alias' }] },
    { name: 'key', label: 'Key', required: true, placeholder: 'logos/a.png', when: (v) => v.what === 'key', hint: 'The path after the alias, decoded.' },
    { name: 'prefix', label: 'Prefix of the keys', required: true, placeholder: 'logos/', when: (v) => v.what === 'prefix' },
    { name: 'hard', label: 'Hard: drop the pictures at once', type: 'checkbox', hint: 'Otherwise each becomes stale, and may be served once more while it is fetched again.' },
  ];
  const purge = async ({ what, ...rest }) => {
    setResult(null);
    if (what !== 'all') rest[what] ??= ''; // the API says what is missing
    const { data } = await call('POST', '/purge', { body: { alias: name, ...rest } });
    setResult(data);
  };
  return html`<${Card} title="Purge">
    <${Form} fields=${fields} initial=${{ what: 'key', hard: false }} role="purge" submit="Purge" kind="" onSubmit=${async (v) => (v.what === 'all' ? setAsking(v) : purge(v))} />
    ${asking && html`<${Confirm} title="Purge the whole alias?" action="Purge all" onConfirm=${() => purge(asking)} onClose=${() => setAsking(null)}>
      <p>Every picture of ${name} is fetched from S3 again at its next request.</p><//>`}
    <div role="status">${result && html`<div class="box ${result.hint ? 'warn' : ''}">
      <p>Purged: ${plural(result.entries, 'picture')} (${bytes(result.bytes)}), ${plural(result.flights, 'running fetch', 'running fetches')}, ${plural(result.negative, 'negative entry', 'negative entries')}.</p>
      ${result.nodes && html`<p>On ${result.nodes.confirmed.join(', ') || 'no node'}${result.nodes.pending.length > 0 && html`; <strong>not yet on ${result.nodes.pending.join(', ')}</strong>, which purges before it serves anything older`}.</p>`}
      ${result.hint && html`<p>${result.hint}</p>`}</div>`}</div><//>`;
}

function Explain({ a }) {
  const [at, setAt] = useState(`/${a.name}/${a.canary}`);
  const go = (e) => {
    e.preventDefault();
    location.hash = link(['explain'], { path: at });
  };
  return html`<${Card} title="Explain a URL"><form class="bar" onSubmit=${go}><div class="field"><label for="explain-path">URL or path</label>
    <input id="explain-path" value=${at} autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(e) => setAt(e.target.value)} /></div>
    <button class="button" disabled=${!at}>Explain</button></form>
    <p class="muted">Shows each step of a request, and why a picture is not served.</p><//>`;
}
