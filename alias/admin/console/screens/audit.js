// Who did what: the audit, the newest first.
import { html, useMemo, useState } from '../preact.js';
import { get } from '../api.js';
import { exact, link } from '../format.js';
import { Action, Badge, Card, Facts, kindOf, Loaded, Page, Table, useLoad } from '../ui.js';

const page = 200;

// choose returns the entries that contain all words of a text.
export function choose(list, q) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length === 0 ? list : list.filter((e) => {
    const all = Object.values(e).join(' ').toLowerCase();
    return words.every((w) => all.includes(w));
  });
}

const columns = (open) => [
  { name: 'at', title: 'Time (UTC)', label: false, width: '11.5rem', cell: (e) => html`<time datetime=${e.at}>${exact(e.at).replace('T', ' ').replace('Z', '')}</time>` },
  { name: 'actor', title: 'Who', label: false, width: 'minmax(10rem, 1fr)', cell: (e) => e.actor },
  { name: 'action', title: 'Action', label: false, width: 'minmax(10rem, 1.4fr)', cell: (e) => html`<button type="button" class="link" onClick=${() => open(e)}>${e.action}</button>` },
  { name: 'about', title: 'About', label: false, width: 'minmax(8rem, 1fr)', cell: (e) => e.alias || e.credential || e.user },
  { name: 'outcome', title: 'Outcome', label: false, width: '9rem', cell: (e) => html`<${Badge} kind=${e.outcome === 'ok' ? 'good' : e.outcome === 'begun' ? 'busy' : kindOf(e.outcome) || 'warn'}>${e.outcome}<//>` },
  { name: 'detail', title: 'Detail', label: false, wide: true, width: 'minmax(13rem, 2fr)', cell: (e) => e.access_key_id || e.policy || e.detail },
];

export default function Audit() {
  const [older, setOlder] = useState({ list: [] });
  const [q, setQ] = useState('');
  const [one, setOne] = useState(null);
  const first = useLoad(async (signal) => (await get('/audit', { limit: page }, signal)).audit, []);
  const list = useMemo(() => [...(first.data ?? []), ...older.list], [first.data, older]);
  const shown = useMemo(() => choose(list, q), [list, q]);
  const more = older.more ?? first.data?.length === page;
  const load = async () => {
    const { audit } = await get('/audit', { before: list.at(-1).id, limit: page });
    setOlder({ list: [...older.list, ...audit], more: audit.length === page });
  };
  const reload = () => {
    setOlder({ list: [] });
    first.reload();
  };
  return html`<${Page} title="Audit" lead="Who did what to which user, policy, key and token." actions=${html`<${Action} onClick=${reload}>Reload<//>`}>
    <${Loaded} of=${first} what="the audit">${() => html`
      <form class="bar" role="search" onSubmit=${(e) => e.preventDefault()}><div class="field"><label for="audit-q">Filter what is loaded</label>
        <input id="audit-q" type="search" value=${q} placeholder="who, action, alias, user, key id, outcome" onInput=${(e) => setQ(e.target.value)} /></div></form>
      ${one && html`<${Entry} e=${one} close=${() => setOne(null)} />`}
      <p class="muted" role="status">${q ? `${shown.length} of ${list.length} loaded entries` : `${list.length} entries loaded`}</p>
      <${Table} label="Audit" columns=${columns(setOne)} rows=${shown} id=${(e) => e.id} height=${38} cardHeight=${104} empty=${q ? 'No loaded entry fits.' : 'No entries yet.'} />
      ${more && html`<div class="actions"><${Action} onClick=${load}>Show older entries<//></div>`}`}<//><//>`;
}

function Entry({ e, close }) {
  return html`<${Card} title=${e.action} actions=${html`<button type="button" class="button small" onClick=${close}>Close</button>`}><${Facts} of=${[
    ['Time', exact(e.at)], ['Who', e.actor], ['Outcome', e.outcome],
    e.alias && ['Alias', html`<a href=${link(['aliases', e.alias])}>${e.alias}</a>`],
    e.credential && ['Credential', html`<a href=${link(['credentials', e.credential])}>${e.credential}</a>`],
    e.operation && ['Operation', e.operation.startsWith('op-') ? html`<a href=${link(['operations', e.operation])}>${e.operation}</a>` : e.operation],
    e.user && ['IAM user', html`<code>${e.user}</code>`], e.policy && ['Policy', html`<code>${e.policy}</code>`],
    e.access_key_id && ['Access key id', html`<code>${e.access_key_id}</code>`], ['Entry', e.id],
  ]} />${e.detail && html`<p>${e.detail}</p>`}<//>`;
}
