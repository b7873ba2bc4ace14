// The list of aliases.
import { html, useEffect, useMemo, useRef, useState } from '../preact.js';
import { get, pages, path } from '../api.js';
import { count, exact, hitRatio, hour, link, location as covers, number, percent, served, slots, span, total } from '../format.js';
import { Action, Badge, ErrorBox, Page, Picture, Spark, State, Table, useSession } from '../ui.js';

const shownHours = 24;
const filters = {
  all: ['All', () => true],
  active: ['Active', (a) => a.state === 'active' && a.enabled],
  disabled: ['Disabled', (a) => !a.enabled],
  pending: ['Not active', (a) => a.state !== 'active'],
  unproven: ['Scope not proven', (a) => a.scope && a.scope !== 'proven'],
};

let kept = {}; // the list of the last visit, and whose session saw it

// useAliases reads all aliases and what their credentials say, page by page.
function useAliases() {
  const session = useSession();
  const [state, setState] = useState(kept.session === session ? kept : { session, aliases: [], credentials: new Map(), loading: true });
  useEffect(() => {
    const stop = new AbortController();
    const before = state.aliases.length > 0; // then show the new list when it is complete
    const aliases = [];
    const credentials = new Map();
    const show = (more) => !stop.signal.aborted && setState((kept = { session, aliases: [...aliases], credentials: new Map(credentials), ...more }));
    const read = async (at, member, each) => {
      for await (const list of pages(at, member, { signal: stop.signal })) {
        list.forEach(each);
        if (!before) show({ loading: true });
      }
    };
    Promise.all([
      read('/aliases', 'aliases', (a) => aliases.push(a)),
      read('/credentials', 'credentials', (c) => credentials.set(c.name, c)),
    ]).then(() => show({}), (error) => show({ error }));
    return () => stop.abort();
  }, [session]);
  return useMemo(() => ({
    ...state,
    rows: state.aliases.map((a, index) => {
      const c = state.credentials.get(a.credential);
      return { ...a, index, scope: c?.scope, kind: c?.kind, key: c?.access_key_id ? c.rotated_at || c.created_at : null };
    }),
  }), [state]);
}

// useUsage reads the usage of the last day for the rows that asked for it.
function useUsage(all) {
  const known = useRef(new Map());
  const timer = useRef();
  const [, redraw] = useState(0);
  const ask = (rows) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(async () => {
      const missing = rows.filter((r) => !known.current.has(r.name));
      if (!missing.length) return;
      missing.forEach((r) => known.current.set(r.name, null));
      for (const u of await usageOf(missing, all).catch(() => [])) known.current.set(u.alias, u);
      redraw((n) => n + 1);
    }, 150);
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  return [known.current, ask];
}

// usageOf reads rows that lie together in one call, and others one by one.
async function usageOf(rows, all) {
  const from = Math.min(...rows.map((r) => r.index));
  const limit = Math.max(...rows.map((r) => r.index)) - from + 1;
  if (limit <= 2 * rows.length + 20) return (await get('/usage', { by: 'hour', last: shownHours, after: all[from - 1]?.name, limit })).usage;
  const list = await Promise.allSettled(rows.map((r) => get(path`/aliases/${r.name}/usage`, { by: 'hour', last: shownHours })));
  return list.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []));
}

const text = (a) => `${a.name} ${a.bucket}/${a.prefix} ${a.credential} ${a.region} ${a.endpoint}`.toLowerCase();

// choose filters and sorts the rows.
export function choose(rows, { q = '', show = 'all', by = 'name', down }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const list = rows.filter((a) => (filters[show] ?? filters.all)[1](a) && (words.length === 0 || words.every((w) => text(a).includes(w))));
  const value = { name: (a) => a.name, place: (a) => `${a.bucket}/${a.prefix}`, state: (a) => (a.enabled ? a.state : 'disabled'), scope: (a) => a.scope || '', key: (a) => a.key || '' }[by] ?? ((a) => a.name);
  if (by !== 'name') list.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.index - b.index));
  return down ? list.reverse() : list;
}

function Requests({ usage }) {
  if (!usage?.series) return html`<span class="muted">–</span>`;
  const values = slots(usage.series, shownHours, Date.now(), hour, (p) => (p ? served(p) : 0));
  const sum = values.reduce((a, b) => a + b, 0);
  return html`<span class="plot"><${Spark} values=${values} label=${`${sum} requests in the last day`} /><span class="num">${count(sum)}</span></span>`;
}

function Hits({ usage }) {
  if (!usage?.series) return html`<span class="muted">–</span>`;
  const points = slots(usage.series, shownHours, Date.now(), hour, (p) => p);
  const values = points.map((p) => (p ? hitRatio(p) : null));
  const sum = total(points.filter(Boolean));
  const ratio = sum.requests ? sum.spared / sum.requests : null;
  return html`<span class="plot"><${Spark} values=${values} most=${1} label=${`Hit ratio of the last day: ${percent(ratio)}`} /><span class="num">${percent(ratio)}</span></span>`;
}

const columns = (usage) => [
  { name: 'picture', kind: 'thumb', title: html`<span class="visually-hidden">Picture</span>`, label: false, width: '40px',
    cell: (a) => (a.canary && a.enabled && a.state === 'active' ? html`<${Picture} path=${path`/aliases/${a.name}/picture`} alt="" small />` : html`<span class="picture none" />`) },
  { name: 'name', title: 'Name', label: false, sorts: true, width: 'minmax(8rem, 1.2fr)', cell: (a) => html`<a href=${link(['aliases', a.name])}>${a.name}</a>` },
  { name: 'place', title: 'Bucket and prefix', label: false, kind: 'line', sorts: true, width: 'minmax(10rem, 2fr)', cell: (a) => html`<span title=${covers(a)}>${a.bucket}/${a.prefix}</span>` },
  { name: 'state', title: 'State', label: false, sorts: true, width: '6.5rem', cell: (a) => (a.enabled ? html`<${State} of=${a.state} />` : html`<${Badge}>disabled<//>`) },
  { name: 'scope', title: 'Scope', label: false, sorts: true, width: '6.5rem', cell: (a) => (a.kind === 'anonymous' ? html`<${Badge} title="The bucket is read without a key">public<//>` : html`<${State} of=${a.scope} />`) },
  { name: 'key', title: 'Age of the key', sorts: true, wide: true, width: '8rem', cell: (a) => (a.key ? html`<time datetime=${a.key} title=${exact(a.key)}>${span((Date.now() - Date.parse(a.key)) / 1000)}</time>` : html`<span class="muted">–</span>`) },
  { name: 'requests', title: 'Requests, 1 day', wide: true, width: '10rem', cell: (a) => html`<${Requests} usage=${usage.get(a.name)} />` },
  { name: 'hits', title: 'Hit ratio, 1 day', wide: true, width: '10rem', cell: (a) => html`<${Hits} usage=${usage.get(a.name)} />` },
];

export default function Aliases({ query }) {
  const { buckets } = useSession();
  const { rows, aliases, loading, error } = useAliases();
  const [look, setLook] = useState({ q: query.q || '', show: query.show || 'all', by: query.by || 'name', down: query.down === '1' });
  const [usage, ask] = useUsage(rows);
  const change = (more) => {
    const next = { ...look, ...more };
    setLook(next);
    history.replaceState(null, '', link(['aliases'], { q: next.q, show: next.show === 'all' ? '' : next.show, by: next.by === 'name' ? '' : next.by, down: next.down ? 1 : '' }));
  };
  const shown = useMemo(() => choose(rows, look), [rows, look]);
  const none = !loading && !error && aliases.length === 0;
  return html`<${Page} title="Aliases" lead=${loading ? `${number(aliases.length)} so far…` : shown.length === rows.length ? !none && `${number(rows.length)} ${rows.length === 1 ? 'alias' : 'aliases'}` : `${number(shown.length)} of ${number(rows.length)}`}
      actions=${html`<${Action} role="alias" kind="primary" href="#/register">Register an alias<//>`}>
    ${error && html`<${ErrorBox} error=${error} />`}
    ${none ? html`<div class="card"><h2>No alias yet</h2><p>An alias gives the pictures of a private bucket a public URL. <a href="#/register">Register one</a> with a key pair
        that can read the bucket, or let ixmage <a href="#/provision">make the user and the key</a>.</p>
        ${buckets.length > 0 && html`<p>Your token sees aliases of these buckets only: ${buckets.join(', ')}.</p>`}</div>`
      : html`<form class="bar" role="search" onSubmit=${(e) => e.preventDefault()}>
        <div class="field"><label for="q">Search</label><input id="q" type="search" value=${look.q} placeholder="name, bucket, prefix, credential" onInput=${(e) => change({ q: e.target.value })} /></div>
        <div class="field narrow"><label for="show">Show</label><select id="show" value=${look.show} onChange=${(e) => change({ show: e.target.value })}>${
          Object.entries(filters).map(([name, [label]]) => html`<option value=${name} selected=${name === look.show}>${label}</option>`)}</select></div>
      </form>
      <${Table} label="Aliases" columns=${columns(usage)} rows=${shown} kind="aliases" height=${52} cardHeight=${62} onView=${ask} sort=${look}
        onSort=${(by) => change({ by, down: look.by === by && !look.down })} empty=${loading ? 'Loading…' : 'No alias fits.'} />`}
  <//>`;
}
