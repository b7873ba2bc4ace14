// An operation while it runs, and the scope checks at its end.
import { html, useEffect, useState } from './preact.js';
import { events, get, path } from './api.js';
import { elapsed, link } from './format.js';
import { Card, Code, ErrorBox, Facts, Grid, kindOf, Picture, State, Steps, Time, useLoad, useNow } from './ui.js';

const again = 3000; // ms, before a stream that broke is opened again

// useOperation follows an operation to its end: {operation, error}. A stream that breaks is
// opened again.
function useOperation(id) {
  const [state, setState] = useState({});
  useEffect(() => {
    let over = false;
    let stop = () => {};
    let timer;
    let running = true;
    const show = (operation) => {
      if (over) return;
      running = operation.state === 'running';
      setState({ operation });
    };
    const read = () => get(path`/operations/${id}`).then((o) => {
      show(o);
      if (over || !running) return;
      stop = events(path`/operations/${id}/events`, 'operation', show, () => {
        if (!over && running) timer = setTimeout(read, again);
      });
    }, (error) => {
      if (over) return;
      setState((s) => ({ ...s, error }));
      if (error.status === 0 || error.status >= 500) timer = setTimeout(read, again);
    });
    read();
    return () => {
      over = true;
      stop();
      clearTimeout(timer);
    };
  }, [id]);
  return state;
}

// hints explains each step until the server has a detail.
const hints = {
  'create-user': 'makes the IAM user, with tags that name its owner', 'adopt-user': 'reads the user and everything that it may do', 'wait-user': 'until IAM shows the user everywhere',
  'put-policy': 'lets the user read the location', 'check-policy': 'reads the policy back', 'create-key': 'makes the key and seals its secret',
  verify: 'checks what the key can and cannot do, five times in a row', open: 'the alias is served from now on',
  'check-keys': 'lists the keys of the user', swap: 'requests are signed with the new key from now on', soak: 'the previous key stays valid, for requests that still use it',
  'deactivate-old': 'makes the previous key inactive', 'revoke-sessions': 'denies sessions that were made with the previous keys', 'soak-inactive': 'the previous key could be made active again',
  'probe-refused': 'until S3 refuses the key', 'delete-old': 'deletes the previous key', confirm: 'checks the result once more',
  'deactivate-keys': 'makes the keys inactive', 'inspect-user': 'lists everything that is attached to the user', 'delete-user': 'deletes the keys, the policies and the user',
  'confirm-gone': 'until IAM no longer shows the user', 'release-user': 'removes the policies, tags and key that ixmage gave the user',
};

const explained = (steps) => steps.map((s) => (s.detail ? s : { ...s, detail: hints[s.name] }));

const words = { provision: 'Provision', rotate: 'Rotate', remove: 'Remove' };

// title is the name of an operation for people.
export const title = (o) => `${words[o.kind] ?? o.kind} ${o.alias || o.credential}`;

// took is the time of an operation, until now while it runs.
export const took = (o, now = Date.now()) => elapsed((o.finished_at ? Date.parse(o.finished_at) : now) - Date.parse(o.created_at));

// Took shows it.
function Took({ of: o }) {
  const now = useNow(o.state === 'running' ? 200 : 60000);
  return took(o, now);
}

// OperationView shows an operation, and after a provisioning what the new key can do and the
// first picture.
export function OperationView({ id }) {
  const { operation: o, error } = useOperation(id);
  if (!o) return error ? html`<h1>Operation</h1><${ErrorBox} error=${error} />` : html`<h1>Operation</h1><p class="muted" role="status">Loading the operation…</p>`;
  const open = o.kind === 'provision' && o.state === 'done' && o.alias;
  return html`
    <header class="page"><div><h1>${title(o)}</h1><p class="muted">${o.id}</p></div>
      <p class="result"><span role="status"><${State} of=${o.state} /></span> <span class="muted"><${Took} of=${o} /></span></p></header>
    ${error && html`<div class="box warn"><p>${error.message} Trying again…</p></div>`}
    ${o.error && html`<${Failure} o=${o} />`}
    ${open && html`<${Opened} name=${o.alias} />`}
    <div class="columns"><${Card} title="Steps"><${Steps} steps=${explained(o.steps)} /><//>
    <${Card} title="Overview"><${Facts} of=${[
      ['Kind', o.kind], ['State', html`<${State} of=${o.state} />`],
      o.alias && ['Alias', html`<a href=${link(['aliases', o.alias])}>${o.alias}</a>`],
      o.credential && ['Credential', html`<a href=${link(['credentials', o.credential])}>${o.credential}</a>`],
      ['Started', html`<${Time} at=${o.created_at} />`], o.finished_at && ['Ended', html`<${Time} at=${o.finished_at} />`],
    ]} /><//></div>
    ${open && html`<${Proof} name=${o.alias} />`}`;
}

function Failure({ o }) {
  if (o.superseded_by) {
    return html`<div class="box warn"><p>Another operation replaced it: <a href=${link(['operations', o.superseded_by])}>${o.superseded_by}</a>.</p></div>`;
  }
  return html`<div class="box bad" role="alert">
    <p><strong>The operation failed with <code>${o.error.code}</code>${o.error.step && html` at the step <code>${o.error.step}</code>`}</strong></p>
    <p>${o.error.detail}</p>
    ${o.kind === 'provision' && html`<p>ixmage has undone what it had made, unless the text above names what remains. Correct the cause, then <a href=${link(['provision'])}>send the request again</a>.</p>`}</div>`;
}

// Opened shows the public URL of an alias and its canary.
function Opened({ name }) {
  const alias = useLoad((signal) => get(path`/aliases/${name}`, {}, signal), [name]);
  const server = useLoad((signal) => get('/server', {}, signal), []);
  const a = alias.data;
  if (!a || !server.data) return null;
  const at = `${server.data.public_url}/${name}/${encodeURI(a.canary || '')}`;
  return html`<${Card} title="The alias is open">
    <${Code} text=${a.canary ? at : `${at}KEY`} />
    ${a.canary ? html`<div class="frame-picture"><${Picture} path=${path`/aliases/${name}/picture`} alt=${`The picture ${a.canary}, as clients get it`} /></div>`
      : html`<p class="muted">KEY is the path of a picture below ${a.prefix || 'the bucket'}. If the alias had a canary, its picture would be shown here.</p>`}<//>`;
}

function Proof({ name }) {
  const last = useLoad((signal) => get(path`/aliases/${name}/verification`, {}, signal), [name]);
  if (last.error?.status === 404) return null;
  return html`<${Card} title="What the key can do">${last.error ? html`<${ErrorBox} error=${last.error} />` : last.data && html`<${Verdicts} of=${last.data} />`}<//>`;
}

// Verdicts shows a verification as a matrix, with the findings below it.
export const Verdicts = ({ of: v }) => html`
  <p><${State} of=${v.scope} /> <span class="muted">checked <${Time} at=${v.checked_at} /></span></p>
  <ul class="matrix" aria-label="Verdicts">${v.checks.map((c) => html`<li class=${kindOf(c.verdict)} title=${c.detail}>
    <code>${c.name}</code><span class="verdict">${c.verdict}</span></li>`)}</ul>
  <details open=${v.scope !== 'proven' || undefined}><summary>Findings</summary>
    <${Grid} label="Findings" head=${['Check', 'Verdict', 'Finding', 'Expected', 'Got', 'Evidence']} rows=${v.checks.map((c) => [
      html`<code>${c.name}</code>`, html`<${State} of=${c.verdict} />`, c.detail, html`<code>${c.expected}</code>`, html`<code>${c.got}</code>`, c.evidence])} /></details>
  ${v.not_tried.length > 0 && html`<details><summary>${v.not_tried.length} not tried</summary>
    <${Grid} label="Not tried" head=${['Check', 'Why']} rows=${v.not_tried.map((t) => [html`<code>${t.name}</code>`, t.why])} /></details>`}`;
