// Components that screens are built from.
import { html, createContext, useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from './preact.js';
import { call, picture, url } from './api.js';
import { ago, elapsed, exact, line } from './format.js';

// ---- Session and roles

export const Session = createContext(null);

// useSession is {name, roles, buckets, expires_at} of the token that is signed in.
export const useSession = () => useContext(Session);

// allows reports whether a session may make the calls of a role, or of one of several in
// one string: 'alias provision'. Every role may read.
export const allows = (session, role) => ['read', ...session.roles].some((r) => r === 'admin' || role.split(' ').includes(r));

const needs = (role) => `This needs a token with the role ${role.replace(' ', ' or ')}`;

// Action is a button for calls of a role. It is disabled, with the reason, if the session
// lacks the role. kind: 'primary', 'danger' or none. onClick may return a promise: the
// button is busy until it ends, and a Problem becomes a toast.
export function Action({ role = 'read', kind = '', href, onClick, disabled, children, ...rest }) {
  const session = useSession();
  const [busy, setBusy] = useState(false);
  const refused = session && !allows(session, role);
  const reason = refused ? needs(role) : rest.title;
  if (href && !refused) return html`<a class="button ${kind}" href=${href} title=${reason}>${children}</a>`;
  const click = async (e) => {
    if (refused || busy) return;
    try {
      setBusy(true);
      await onClick?.(e);
    } catch (err) {
      toast(err.message, 'bad');
    } finally {
      setBusy(false);
    }
  };
  // aria-disabled and not disabled: the button can be focused, so the reason can be read.
  return html`<button type="button" class="button ${kind}" ...${rest} aria-label=${rest['aria-label'] && refused ? `${rest['aria-label']} (${reason})` : rest['aria-label']} title=${reason} disabled=${disabled && !refused}
    aria-disabled=${refused || busy ? 'true' : undefined} aria-busy=${busy || undefined} onClick=${click}>${children}${
      refused && !rest['aria-label'] && html`<span class="visually-hidden"> (${reason})</span>`}</button>`;
}

// ---- Loading

// useLoad calls load(signal) at once and when deps change. It returns {data, error,
// loading, reload, renew, set}; data stays while it is loaded again. renew returns when it is there.
export function useLoad(load, deps) {
  const [state, setState] = useState({ loading: true });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setState((s) => ({ data: s.data, loading: true }));
    load(stop.signal).then(
      (data) => stop.signal.aborted || setState({ data, loading: false }),
      (error) => stop.signal.aborted || setState((s) => ({ data: s.data, error, loading: false })),
    );
    return () => stop.abort();
  }, [...deps, turn]);
  const set = (data) => setState({ data, loading: false });
  return { ...state, reload: () => setTurn((n) => n + 1), renew: async () => set(await load()), set };
}

// change calls with the ETag of what was loaded with call, and returns the answer. If that has changed
// in the meantime, the page has it as it is now before change fails.
export async function change(loaded, method, at, body) {
  try {
    return await call(method, at, { body, match: loaded.data.etag });
  } catch (err) {
    if (err.status === 412) await loaded.renew().catch(loaded.reload);
    throw err;
  }
}

// Loaded shows what useLoad returned: children is a function of the data. title is the
// heading of a screen that has no other until the data is there.
export function Loaded({ of, what = 'this', title, children }) {
  return html`
    ${title && !of.data && html`<h1>${title}</h1>`}
    ${of.error && html`<${ErrorBox} error=${of.error} retry=${of.reload} />`}
    ${of.data !== undefined && of.data !== null ? children(of.data) : of.loading && html`<p class="muted" role="status">Loading ${what}…</p>`}`;
}

// ErrorBox shows a Problem: what is wrong, what to do, and the id that finds it in the log.
export function ErrorBox({ error, retry, except = [] }) {
  const rest = (error.errors || []).filter((e) => !except.includes(e.field));
  return html`<div class="box bad" role="alert">
    <p><strong>${error.title || 'Something went wrong'}</strong></p>
    ${rest.length ? html`<ul>${rest.map((e) => html`<li>${e.field && html`<code>${e.field}</code> `}${e.detail}</li>`)}</ul>`
      : !(error.errors?.length) && html`<p>${error.message}</p>`}
    ${error.commands?.length > 0 && html`<p>These commands do the same by hand:</p><${Code} text=${error.commands.join('\n')} />`}
    ${error.retryAfter > 0 && html`<p>Try again in ${error.retryAfter} s.</p>`}
    ${error.requestId && html`<p class="muted">Request <code>${error.requestId}</code></p>`}
    ${retry && html`<button type="button" class="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

// ---- Text

export const useNow = (every) => {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
};

// Time shows a time relative to now, with the exact one in its title.
export function Time({ at, none = 'never' }) {
  const now = useNow(15000);
  if (!at) return html`<span class="muted">${none}</span>`;
  return html`<time datetime=${at} title=${exact(at)}>${ago(Date.parse(at), now)}</time>`;
}

// Badge is a short word with a colour: kind is good, warn, bad, busy or none.
export const Badge = ({ kind = '', children, title }) => html`<span class="badge ${kind}" title=${title}>${children}</span>`;

const kinds = {
  active: 'good', done: 'good', proven: 'good', readable: 'good', closed: 'good', live: 'good',
  weak: 'warn', 'half-open': 'warn', superseded: 'warn',
  failed: 'bad', violated: 'bad', 'not-proven': 'bad', failing: 'bad', open: 'bad', silent: 'bad',
  running: 'busy', provisioning: 'busy', rotating: 'busy', removing: 'busy',
};

// kindOf is the colour of a state or verdict.
export const kindOf = (state) => kinds[state] || '';

// State is the badge of a state or verdict of the API.
export const State = ({ of }) => (of ? html`<${Badge} kind=${kinds[of]}>${of}<//>` : html`<span class="muted">–</span>`);

// Code shows text that people copy.
export function Code({ text, label = 'Copy' }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast('Copied');
    } catch {
      toast('The browser refused to copy: select the text and copy it', 'bad');
    }
  };
  return html`<div class="code"><pre tabindex="0">${text}</pre><button type="button" class="button small" onClick=${copy}>${label}</button></div>`;
}

// Facts is a list of names and values: [[name, value], …]. Rows that are false are left out.
export const Facts = ({ of }) => html`<dl class="facts">${of.filter(Boolean).map(([name, value]) => html`
  <div><dt>${name}</dt><dd>${value === '' || value == null ? html`<span class="muted">–</span>` : value}</dd></div>`)}</dl>`;

// Page is the frame of a screen: its heading, its buttons and its content.
export const Page = ({ title, lead, actions, children }) => html`
  <header class="page"><div><h1>${title}</h1>${lead && html`<p class="muted">${lead}</p>`}</div>
    ${actions && html`<div class="actions">${actions}</div>`}</header>
  ${children}`;

// Card is a part of a screen.
export function Card({ title, actions, children, ...rest }) {
  const id = useId();
  return html`<section class="card" aria-labelledby=${title && id} ...${rest}>
    ${title && html`<header><h2 id=${id}>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</header>`}
    ${children}</section>`;
}

// ---- Toasts

let toasts = [];
let nextToast = 0;
let showToasts = () => {};

// toast shows a short message for some seconds. kind: good, bad or none.
export function toast(text, kind = 'good') {
  const one = { id: ++nextToast, text, kind };
  const drop = () => showToasts((toasts = toasts.filter((t) => t !== one)));
  showToasts((toasts = [...toasts.slice(-3), { ...one, drop }].map((t) => (t.id === one.id ? Object.assign(one, t) : t))));
  setTimeout(drop, kind === 'bad' ? 12000 : 5000);
}

export function Toasts() {
  const [list, setList] = useState(toasts);
  useEffect(() => {
    showToasts = setList;
    return () => { showToasts = () => {}; };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">${list.map((t) => html`
    <div key=${t.id} class="toast ${t.kind}"><span>${t.text}</span>
      <button type="button" class="close" aria-label="Dismiss" onClick=${t.drop}>×</button></div>`)}</div>`;
}

// ---- Dialogs

// Dialog is open while it is in the page. The browser keeps the focus in it, and closes it
// with Escape.
export function Dialog({ title, onClose, children }) {
  const ref = useRef();
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    (ref.current.querySelector('input, select, textarea') ?? ref.current.querySelector('.button'))?.focus(); // and not the button that closes
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby=${id} onCancel=${(e) => { e.preventDefault(); onClose(); }}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="close" aria-label="Close" onClick=${onClose}>×</button></header>
    ${children}</dialog>`;
}

// Confirm asks before something that cannot be undone. With word the reader must type it.
export function Confirm({ title, word, action, kind = 'danger', onConfirm, onClose, children }) {
  const [typed, setTyped] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const id = useId();
  const ready = !word || typed === word;
  const submit = async (e) => {
    e.preventDefault();
    if (!ready || busy) return;
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (err) {
      setError(err);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}>
    ${children}
    ${error && html`<${ErrorBox} error=${error} />`}
    ${word && html`<div class="field"><label for=${id}>Type <code>${word}</code> to confirm</label>
      <input id=${id} autocomplete="off" autocapitalize="none" spellcheck=${false} value=${typed} onInput=${(e) => setTyped(e.target.value)} /></div>`}
    <div class="actions end"><button type="button" class="button" onClick=${onClose}>Cancel</button>
      <button class="button ${kind}" disabled=${!ready} aria-busy=${busy || undefined}>${action}</button></div>
  </form><//>`;
}

// ---- Forms

// belongs reports whether an error of the API is of a field of a form: cors_origins[1] is
// shown at cors_origins.
const belongs = (error, name) => error === name || error.startsWith(`${name}[`) || error.startsWith(`${name}.`);

// Form is a form of fields {name, label, type, hint, required, options, when, group, …}.
// byDefault is the option of a select that shows while there is no value.
// type: text (default), password, number, checkbox, select, radio, textarea, or lines, checks and
// numbers, whose value is an array. when(values) hides a field. Fields with a group are folded below the others
// under its name. initial has the first values.
// onSubmit(values) may throw a Problem: its errors appear at their fields. What it returns are the values from then on.
// onChange(values) sees each change, and may return other values. problems are errors that are known before a call.
// Children stand before the buttons.
export function Form({ fields, initial = {}, problems = [], submit = 'Save', kind = 'primary', role, onSubmit, onChange, onCancel, children }) {
  const [values, setValues] = useState(initial);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef();
  const session = useSession();
  const refused = role && session && !allows(session, role);
  const shown = fields.filter((f) => !f.when || f.when(values));
  const problemsOf = (f) => [...(error?.errors || []), ...problems].filter((e, i, all) => belongs(e.field, f.name) && all.findIndex((o) => o.field === e.field && o.detail === e.detail) === i);
  const set = (name, value) => {
    const next = { ...values, [name]: value };
    setValues(onChange?.(next) ?? next);
  };
  const send = async (e) => {
    e.preventDefault();
    if (busy || refused) return;
    setBusy(true);
    setError(null);
    try {
      const saved = await onSubmit(Object.fromEntries(shown.map((f) => [f.name, values[f.name]])), values);
      if (saved) setValues(saved);
    } catch (err) {
      setError(err);
    }
    setBusy(false);
  };
  useEffect(() => {
    if (error) (form.current?.querySelector('[aria-invalid=true]') || form.current?.querySelector('[role=alert]'))?.focus();
  }, [error]);
  const placed = shown.flatMap((f) => problemsOf(f).map((e) => e.field));
  const loose = error && (!error.errors?.length || error.errors.some((e) => !placed.includes(e.field)));
  return html`<form ref=${form} class="form" onSubmit=${send} novalidate autocomplete="off">
    ${error && (loose ? html`<${ErrorBox} error=${error} except=${placed} />`
      : html`<p class="bad-text" role="alert">${error.title}: see the marked fields.</p>`)}
    ${[...new Set(shown.map((f) => f.group))].map((g) => {
      const members = shown.filter((f) => f.group === g);
      const list = html`<div class="fields">${members.map((f) => html`<${Field} key=${f.name} field=${f} value=${values[f.name]}
        problems=${problemsOf(f)} set=${(v) => set(f.name, v)} />`)}</div>`;
      return g ? html`<details key=${g} open=${members.some((f) => problemsOf(f).length) || undefined}><summary>${g}</summary>${list}</details>` : list;
    })}
    ${typeof children === 'function' ? children(values) : children}
    <div class="actions">
      <button class="button ${kind}" aria-busy=${busy || undefined} aria-disabled=${refused ? 'true' : undefined}
        title=${refused ? needs(role) : undefined}>${submit}</button>
      ${onCancel && html`<button type="button" class="button" onClick=${onCancel}>Cancel</button>`}
      ${refused && html`<span class="muted">${needs(role)}.</span>`}
    </div></form>`;
}

// Field is one field with its label, hint and errors.
export function Field({ field: f, value, problems = [], set }) {
  const id = useId();
  const wrong = problems.length > 0;
  const about = [f.hint && `${id}-hint`, wrong && `${id}-error`].filter(Boolean).join(' ') || undefined;
  const common = {
    id, name: f.name, 'aria-invalid': wrong ? 'true' : undefined, 'aria-describedby': about, 'aria-required': f.required ? 'true' : undefined,
    placeholder: f.placeholder, inputmode: f.inputmode, autocomplete: f.autocomplete || (f.type === 'password' ? 'new-password' : 'off'), autocapitalize: 'none', spellcheck: false,
    onInput: (e) => set(e.target.value),
  };
  let input;
  switch (f.type) {
    case 'checkbox':
      input = html`<input ...${common} type="checkbox" checked=${!!value} onInput=${(e) => set(e.target.checked)} />`;
      break;
    case 'select':
      input = html`<select ...${common} value=${value ?? f.byDefault ?? ''}>${f.options.map((o) => html`
        <option value=${o.value ?? o} selected=${(o.value ?? o) === (value ?? f.byDefault ?? '')}>${o.label ?? o}</option>`)}</select>`;
      break;
    case 'checks': // one of several boxes: options is [{value, label, hint}]
      return html`<fieldset class="checks ${f.wide ? 'wide' : ''}" aria-invalid=${wrong ? 'true' : undefined} aria-describedby=${about} tabindex=${wrong ? -1 : undefined}><legend>${f.label}</legend>
        ${f.options.map((o) => html`<div class="field check"><label for=${`${id}-${o.value}`}>${o.label}</label>
          <input id=${`${id}-${o.value}`} type="checkbox" checked=${(value || []).includes(o.value)} aria-describedby=${`${id}-${o.value}-hint`}
            onInput=${(e) => set(f.options.map((p) => p.value).filter((v) => (v === o.value ? e.target.checked : (value || []).includes(v))))} />
          <p class="hint" id=${`${id}-${o.value}-hint`}>${o.hint}</p></div>`)}
        ${wrong && html`<ul class="errors" id=${`${id}-error`}>${problems.map((p) => html`<li>${p.detail}</li>`)}</ul>`}</fieldset>`;
    case 'radio': // one of several: options is [{value, label, hint}]
      return html`<fieldset class="checks wide" aria-describedby=${about}><legend>${f.label}</legend>
        ${f.options.map((o) => html`<div class="field check"><label for=${`${id}-${o.value}`}>${o.label}</label>
          <input id=${`${id}-${o.value}`} type="radio" name=${id} checked=${value === o.value} aria-describedby=${`${id}-${o.value}-hint`} onChange=${() => set(o.value)} />
          <p class="hint" id=${`${id}-${o.value}-hint`}>${o.hint}</p></div>`)}
        ${wrong && html`<ul class="errors" id=${`${id}-error`}>${problems.map((p) => html`<li>${p.detail}</li>`)}</ul>`}</fieldset>`;
    case 'numbers':
      return html`<${Numbers} f=${f} value=${value || []} set=${set} id=${id} about=${about} problems=${problems} />`;
    case 'textarea':
      input = html`<textarea ...${common} rows=${f.rows || 4} value=${value ?? ''} />`;
      break;
    case 'lines':
      input = html`<textarea ...${common} rows=${f.rows || 2} value=${(value || []).join('\n')}
        onInput=${(e) => set(e.target.value === '' ? [] : e.target.value.split('\n'))} />`;
      break;
    default:
      input = html`<input ...${common} type=${f.type || 'text'} list=${f.list && `${id}-list`} value=${value ?? ''} />`;
  }
  return html`<div class="field ${f.type === 'checkbox' ? 'check' : ''} ${f.wide ? 'wide' : ''}">
    <label for=${id}>${f.label}${f.required && html`<span class="muted" aria-hidden="true"> *</span>`}</label>
    ${input}
    ${f.list && html`<datalist id=${`${id}-list`}>${f.list.map((v) => html`<option value=${v} />`)}</datalist>`}
    ${f.hint && html`<p class="hint" id=${`${id}-hint`}>${f.hint}</p>`}
    ${wrong && html`<ul class="errors" id=${`${id}-error`}>${problems.map((p) => html`<li>${p.field === f.name ? '' : `${p.field}: `}${p.detail}</li>`)}</ul>`}
  </div>`;
}

const digits = (text) => text.replace(/\D/g, '');

// Numbers is a field of whole numbers in ascending order, each with a button that removes it.
// The field's byDefault are those that a button brings back.
function Numbers({ f, value, set, id, about, problems }) {
  const [typed, setTyped] = useState('');
  const box = useRef();
  const add = () => {
    const n = Number(digits(box.current.value));
    if (n > 0) set([...new Set([...value, n])].sort((a, b) => a - b));
    setTyped('');
    box.current.focus();
  };
  const remove = (n) => {
    set(value.filter((v) => v !== n));
    box.current.focus(); // the button leaves the page
  };
  const wrong = problems.length > 0;
  return html`<div class="field wide"><label for=${id}>${f.label}</label>
    <ul class="chips" aria-label=${f.label}>${value.map((n) => html`<li key=${n} class="badge">${n}<button type="button" class="close" aria-label=${`Remove ${n}`} onClick=${() => remove(n)}>×</button></li>`)}</ul>
    <div class="actions"><input ref=${box} id=${id} class="short" inputmode="numeric" autocomplete="off" value=${typed} placeholder=${f.placeholder} aria-invalid=${wrong ? 'true' : undefined} aria-describedby=${about}
        onInput=${(e) => setTyped(digits(e.target.value))} onKeyPress=${(e) => { if (e.key === 'Enter' && e.target.value) { e.preventDefault(); add(); } }} />
      <button type="button" class="button" disabled=${!typed} onClick=${add}>Add</button>
      ${f.byDefault && String(f.byDefault) !== String(value) && html`<button type="button" class="button" onClick=${() => set(f.byDefault)}>Restore the default</button>`}</div>
    ${f.hint && html`<p class="hint" id=${`${id}-hint`}>${f.hint}</p>`}
    ${wrong && html`<ul class="errors" id=${`${id}-error`}>${problems.map((p) => html`<li>${p.detail}</li>`)}</ul>`}</div>`;
}

// ---- Tables

// useMedia reports whether a media query matches.
export function useMedia(query) {
  const media = useMemo(() => matchMedia(query), [query]);
  const [is, setIs] = useState(media.matches);
  useEffect(() => {
    const change = () => setIs(media.matches);
    media.addEventListener('change', change);
    return () => media.removeEventListener('change', change);
  }, [media]);
  return is;
}

const overscan = 6;
const scrolled = new Map(); // by the label of a table: where it was left

// Table shows many rows: only those in view are in the page. columns: [{name, title, cell(row),
// width (of the grid), sorts (can be sorted by), wide (not in cards), label: false (no title in cards)}]. rows have the
// unique id(row). height and cardHeight are those of a row in px, in a table and in a
// card on a narrow screen. sort is {by, down}, onSort(by) a click on a head; onView(rows)
// gets the rows in view. kind is a class of the table, for the layout of its cards.
export function Table({ label, columns, rows, id = (r) => r.name, height = 44, cardHeight = 104, sort, onSort, onView, empty = 'Nothing here yet.', kind = '' }) {
  const box = useRef();
  const narrow = useMedia('(max-width: 46rem)');
  const [view, setView] = useState({ from: 0, to: 30 });
  const [held, setHeld] = useState(-1); // the row with the focus stays in the page
  const size = narrow ? cardHeight : height;
  const measure = useCallback(() => {
    const { scrollTop, clientHeight } = box.current;
    const from = Math.max(0, Math.floor(scrollTop / size) - overscan);
    const to = Math.ceil((scrollTop + clientHeight) / size) + overscan;
    setView((v) => (v.from === from && v.to === to ? v : { from, to }));
  }, [size]);
  useLayoutEffect(() => {
    if (rows.length) box.current.scrollTop = scrolled.get(label) ?? 0;
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    return () => watch.disconnect();
  }, [measure, rows.length === 0]);
  const to = Math.min(view.to, rows.length);
  const from = Math.min(view.from, to);
  useEffect(() => onView?.(rows.slice(from, to)), [rows, from, to]);
  const list = Array.from({ length: to - from }, (_, i) => from + i);
  if (held >= 0 && held < rows.length && (held < from || held >= to)) list.push(held);
  const shown = narrow ? columns.filter((c) => !c.wide) : columns;
  const grid = shown.map((c) => c.width || 'minmax(6rem, 1fr)').join(' ');
  return html`<div class="scroll table ${kind} ${narrow ? 'cards' : ''}" ref=${box} tabindex="0" role="region" aria-label=${label} onScroll=${() => { scrolled.set(label, box.current.scrollTop); measure(); }}
      style=${{ '--columns': grid, '--row': `${size}px` }}>
    <div role="table" aria-label=${label} aria-rowcount=${rows.length + 1} aria-colcount=${shown.length}>
      <div role="rowgroup" class="head"><div role="row" class="tr" aria-rowindex="1">${shown.map((c) => html`
        <div role="columnheader" class="cell ${c.kind || ''}" aria-sort=${c.sorts ? (sort?.by !== c.name ? 'none' : sort.down ? 'descending' : 'ascending') : undefined}>
          ${c.sorts && onSort ? html`<button type="button" onClick=${() => onSort(c.name)}>${c.title}<span aria-hidden="true">${
            sort?.by === c.name ? (sort.down ? ' ↓' : ' ↑') : ''}</span></button>` : c.title}</div>`)}</div></div>
      <div role="rowgroup" class="rows" style=${{ height: `${rows.length * size}px` }} onFocusOut=${() => setHeld(-1)}
        onFocusIn=${(e) => setHeld(Number(e.target.closest('[data-index]')?.dataset.index ?? -1))}>${list.map((i) => html`
        <div role="row" class="tr" key=${id(rows[i])} data-index=${i} aria-rowindex=${i + 2} style=${{ transform: `translateY(${i * size}px)` }}>${shown.map((c) => html`
          <div role="cell" class="cell ${c.kind || ''}">${narrow && c.title && c.label !== false && html`<span class="card-label">${c.title} </span>`}${c.cell(rows[i])}</div>`)}</div>`)}</div>
    </div>
    ${rows.length === 0 && html`<p class="empty muted">${empty}</p>`}
  </div>`;
}

// Grid is a plain table for few rows: head is a list of titles, rows lists of cells.
export const Grid = ({ label, head, rows, empty = 'Nothing here yet.' }) => (rows.length === 0 ? html`<p class="muted">${empty}</p>` : html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}><table><thead><tr>${head.map((t) => html`<th scope="col">${t}</th>`)}</tr></thead>
    <tbody>${rows.map((cells) => html`<tr>${cells.map((c) => html`<td>${c}</td>`)}</tr>`)}</tbody></table></div>`);

// ---- Pictures

const pictures = new Map(); // the newest small pictures, by address

// inTurn runs at most 3 tasks at a time: a browser has 6 connections to a server, and slow
// pictures must not take them all.
let running = 0;
const waiting = [];

async function inTurn(task) {
  if (running >= 3) await new Promise((go) => waiting.push(go));
  running++;
  try {
    return await task();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

// Picture shows the picture at an address of the API, or why there is none. The bytes come
// by fetch, which gives the API's reason, and not by the address of an img.
export function Picture({ path, query, alt, small, onProblem }) {
  const at = url(path, query);
  const [state, setState] = useState({});
  useEffect(() => {
    const known = pictures.get(at);
    if (known && small) return setState({ source: known });
    setState({});
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const read = () => (stop.signal.aborted ? null : picture(path, { query, signal: stop.signal }));
        const source = await (small ? inTurn(read) : read());
        if (stop.signal.aborted) return;
        setState({ source });
        if (small && source.length < 300000) pictures.set(at, source);
        if (pictures.size > 100) pictures.delete(pictures.keys().next().value);
      } catch (error) {
        if (stop.signal.aborted) return;
        setState({ error });
        onProblem?.(error);
      }
    }, small ? 150 : 0); // not for rows that are only scrolled past
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [at]);
  if (state.source) return html`<img class="picture" src=${state.source} alt=${alt} onError=${() => setState({ error: new Error('The browser cannot show this type of picture') })} />`;
  if (small) return html`<span class="picture none" title=${state.error?.message}>${state.error && html`<span class="visually-hidden">No picture: ${state.error.message}</span>!`}</span>`;
  return state.error ? html`<${ErrorBox} error=${state.error} />` : html`<p class="muted" role="status">Loading the picture…</p>`;
}

// ---- Plots

// Spark is a small line of values from 0 to most (default: the largest). label says it in words.
export function Spark({ values, most, label, w = 84, h = 22 }) {
  const points = line(values, w - 2, h - 4, most);
  return html`<svg class="spark" viewBox="-1 -2 ${w} ${h}" width=${w} height=${h} role="img" aria-label=${label}>
    <title>${label}</title>${points && html`<polyline points=${points} />`}</svg>`;
}

// Bars is a plot of stacked bars: bars is [{label, values: [n, …]}], names those of the
// values, format their text. The same numbers are in a table below it.
export function Bars({ label, bars, names, format }) {
  const [w, h] = [600, 120];
  const most = Math.max(1, ...bars.map((b) => b.values.reduce((x, y) => x + y, 0)));
  const step = w / bars.length;
  return html`<figure class="bars">
    <figcaption><span>${label}</span>${names.map((n, i) => html`<span class="key k${i}">${n}</span>`)}<span class="muted">highest ${format(most)}</span></figcaption>
    <svg viewBox="0 0 ${w} ${h}" preserveAspectRatio="none" role="img" aria-label=${`${label}, highest ${format(most)}; the table below has the numbers`}>${bars.map((b, i) => {
      let y = h;
      return html`<g><title>${`${b.label}: ${names.map((n, j) => `${n} ${format(b.values[j])}`).join(', ')}`}</title>
        <rect class="hover" x=${i * step} y="0" width=${step} height=${h} />${b.values.map((v, j) => {
          const size = (v / most) * (h - 2);
          y -= size;
          return html`<rect class="k${j}" x=${i * step + step * 0.1} y=${y} width=${step * 0.8} height=${size} />`;
        })}</g>`;
    })}</svg>
    <details><summary>Numbers</summary><${Grid} label=${label} head=${['Time', ...names]} rows=${bars.map((b) => [b.label, ...b.values.map(format)])} /></details>
  </figure>`;
}

// Meter is a bar for a part of a whole.
export const Meter = ({ value, of, label }) => html`<meter min="0" max=${of || 1} value=${value} aria-label=${label} title=${label} />`;

// ---- Steps

const marks = { pending: '○', running: '◐', done: '●', failed: '✕' };

// Steps shows the steps of an operation with their times. Changes are read out.
export function Steps({ steps }) {
  const now = useNow(steps.some((s) => s.state === 'running') ? 200 : 60000);
  const current = steps.findLast((s) => s.state !== 'pending');
  return html`<ol class="steps">${steps.map((s) => html`<li key=${s.name} class=${s.state}>
      <span class="mark" aria-hidden="true">${marks[s.state] || '○'}</span>
      <span class="what"><strong>${s.name}</strong> <span class="visually-hidden">${s.state}</span>${s.detail && html`<span class="muted">${s.detail}</span>`}</span>
      <span class="muted time">${s.started_at && elapsed((s.finished_at ? Date.parse(s.finished_at) : now) - Date.parse(s.started_at))}</span></li>`)}</ol>
    <p class="visually-hidden" role="status">${current && `Step ${current.name}: ${current.state}`}</p>`;
}
