// The list of operations, the newest first.
import { html, useEffect, useState } from '../preact.js';
import { get } from '../api.js';
import { link } from '../format.js';
import { took } from '../operation_view.js';
import { Action, ErrorBox, Page, State, Table, Time } from '../ui.js';

const page = 100;
const every = 4000; // ms, while one of them runs

const columns = [
  { name: 'what', title: 'Operation', label: false, width: 'minmax(9rem, 1fr)', cell: (o) => html`<a href=${link(['operations', o.id])}>${o.kind} ${o.alias || o.credential}</a>` },
  { name: 'state', title: 'State', label: false, width: '7.5rem', cell: (o) => html`<${State} of=${o.state} />` },
  { name: 'credential', title: 'Credential', width: 'minmax(7rem, 1fr)', cell: (o) => (o.credential ? html`<a href=${link(['credentials', o.credential])}>${o.credential}</a>` : '–') },
  { name: 'began', title: 'Started', label: false, width: '7rem', cell: (o) => html`<${Time} at=${o.created_at} />` },
  { name: 'took', title: 'Took', width: '7rem', cell: (o) => took(o) },
  { name: 'now', title: 'Step or error', label: false, wide: true, width: 'minmax(10rem, 2fr)', cell: (o) => (o.error ? html`<span title=${o.error.detail}><code>${o.error.code}</code> ${o.error.detail}</span>`
    : o.steps.findLast((s) => s.state !== 'pending')?.name ?? '') },
];

// merge puts newer states of operations in front of a list, without doubles.
export function merge(list, newer) {
  const known = new Map(newer.map((o) => [o.id, o]));
  const before = new Set(list.map((o) => o.id));
  return [...newer.filter((o) => !before.has(o.id)), ...list.map((o) => known.get(o.id) ?? o)];
}

export default function Operations({ query }) {
  const [look, setLook] = useState({ alias: query.alias || '', credential: query.credential || '', state: query.state || '' });
  const [state, setState] = useState({ list: [], loading: true });
  const load = async (before, signal) => {
    const { operations } = await get('/operations', { ...look, before, limit: page }, signal);
    if (signal?.aborted) return;
    setState((s) => ({ list: before ? [...s.list, ...operations] : operations, more: operations.length === page }));
  };
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => load('', stop.signal).catch((error) => stop.signal.aborted || setState({ list: [], error })), 200); // while a filter is typed
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [look]);
  const running = state.list.some((o) => o.state === 'running');
  useEffect(() => {
    if (!running) return undefined;
    const stop = new AbortController();
    const timer = setInterval(() => get('/operations', { ...look, limit: page }, stop.signal)
      .then(({ operations }) => setState((s) => ({ ...s, list: merge(s.list, operations) })), () => {}), every);
    return () => {
      clearInterval(timer);
      stop.abort();
    };
  }, [running, look]);
  const change = (more) => {
    const next = { ...look, ...more };
    setLook(next);
    history.replaceState(null, '', link(['operations'], next));
  };
  const text = (name, label) => html`<div class="field"><label for=${`of-${name}`}>${label}</label>
    <input id=${`of-${name}`} type="search" value=${look[name]} autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(e) => change({ [name]: e.target.value.trim() })} /></div>`;
  return html`<${Page} title="Operations" lead="Provisioning, rotation and removal: what ixmage did in IAM, step by step."
      actions=${html`<${Action} role="provision" kind="primary" href="#/provision">Provision an alias<//>`}>
    <form class="bar" role="search" onSubmit=${(e) => e.preventDefault()}>${text('alias', 'Alias')}${text('credential', 'Credential')}
      <div class="field narrow"><label for="of-state">State</label><select id="of-state" value=${look.state} onChange=${(e) => change({ state: e.target.value })}>${
        ['', 'running', 'done', 'failed', 'superseded'].map((s) => html`<option value=${s} selected=${s === look.state}>${s || 'all'}</option>`)}</select></div></form>
    ${state.error && html`<${ErrorBox} error=${state.error} retry=${() => change({})} />`}
    ${!state.error && html`<${Table} label="Operations" columns=${columns} rows=${state.list} id=${(o) => o.id} cardHeight=${104}
      empty=${state.loading ? 'Loading…' : look.alias || look.credential || look.state ? 'No operation fits.' : 'No operation yet.'} />`}
    ${state.more && html`<div class="actions"><${Action} onClick=${() => load(state.list.at(-1).id)}>Show older operations<//></div>`}
  <//>`;
}
