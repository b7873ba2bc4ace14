// The cache: its tiers, and the aliases with pictures in memory.
import { html, useEffect, useState } from '../preact.js';
import { get } from '../api.js';
import { bytes, count, link, percent } from '../format.js';
import { Action, Badge, Card, Facts, Grid, Loaded, Meter, Page, Table, useLoad } from '../ui.js';

const every = 10000; // ms

const names = { memory: 'Memory', disk: 'Disk', missing: 'Negative entries' };

// reasons explains the reasons of evictions.
const reasons = {
  capacity: 'no space', expired: 'too old', replaced: 'newer version stored', purged: 'purged', gone: 'deleted in S3', corrupt: 'damaged on disk',
};

const columns = (most) => [
  { name: 'alias', title: 'Alias', label: false, sorts: true, width: 'minmax(8rem, 1fr)', cell: (a) => html`<a href=${link(['aliases', a.alias])}>${a.alias}</a>` },
  { name: 'bytes', title: 'In memory', label: false, sorts: true, width: 'minmax(11rem, 2fr)', cell: (a) => html`<span class="amount"><${Meter} value=${a.bytes} of=${most} label=${`${bytes(a.bytes)} in memory`} /><span class="num">${bytes(a.bytes)}</span></span>` },
  { name: 'own', title: 'Evicted for its own', sorts: true, kind: 'num', width: '10rem', cell: (a) => count(a.evictions.own) },
  { name: 'pushed', title: 'Evicted of others', sorts: true, kind: 'num', width: '9.5rem', cell: (a) => count(a.evictions.pushed) },
  { name: 'lost', title: 'Lost to others', sorts: true, kind: 'num', width: '8rem', cell: (a) => count(a.evictions.lost) },
];

// order sorts aliases by a column.
export function order(list, { by, down }) {
  const value = { alias: (a) => a.alias, bytes: (a) => a.bytes }[by] ?? ((a) => a.evictions[by]);
  return [...list].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.alias < b.alias ? -1 : 1) * (down ? -1 : 1));
}

export default function Cache() {
  const cache = useLoad((signal) => get('/cache', {}, signal), []);
  const [sort, setSort] = useState({ by: 'bytes', down: true });
  useEffect(() => {
    const timer = setInterval(() => document.hidden || get('/cache').then(cache.set, () => {}), every);
    return () => clearInterval(timer);
  }, []);
  return html`<${Page} title="Cache" lead="Counts are since the start of the server." actions=${html`<${Action} onClick=${cache.reload}>Reload<//>`}>
    <${Loaded} of=${cache} what="the cache">${(c) => html`
      <div class="columns">${c.tiers.map((t) => html`<${Tier} key=${t.tier} t=${t} />`)}</div>
      <h2>Aliases in memory</h2>
      <${Table} label="Aliases in memory" columns=${columns(Math.max(1, ...c.aliases.map((a) => a.bytes)))} rows=${order(c.aliases, sort)} id=${(a) => a.alias} height=${38} cardHeight=${96} kind="cache"
        sort=${sort} onSort=${(by) => setSort({ by, down: sort.by === by ? !sort.down : by !== 'alias' })} empty="No picture is in memory." />`}<//>
  <//>`;
}

function Tier({ t }) {
  const used = t.capacity ? t.bytes / t.capacity : 0;
  const gone = Object.entries(t.evictions).sort(([, a], [, b]) => b - a);
  return html`<${Card} title=${names[t.tier] ?? t.tier} actions=${!t.available && html`<${Badge} kind="bad">off: its folder cannot be used<//>`}>
    <div><p class="amount"><strong>${bytes(t.bytes)}</strong><span class="muted">of ${bytes(t.capacity)}, ${percent(used)}</span></p>
      <${Meter} value=${t.bytes} of=${t.capacity} label=${`${bytes(t.bytes)} of ${bytes(t.capacity)}`} /></div>
    <${Facts} of=${[['Entries', count(t.entries)], ['Average', t.entries ? bytes(t.bytes / t.entries) : '–'], ['Evicted', count(gone.reduce((n, [, v]) => n + v, 0))]]} />
    ${gone.length > 0 && html`<${Grid} label=${`Evictions from ${t.tier}`} head=${['Reason', 'Entries']} rows=${gone.map(([reason, n]) => [html`${reason} <span class="muted">${reasons[reason] && `(${reasons[reason]})`}</span>`, count(n)])} />`}<//>`;
}
