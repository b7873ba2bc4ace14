// The list of credentials, and the form that registers one.
import { html, useEffect, useState } from '../preact.js';
import { call, pages } from '../api.js';
import { link, number } from '../format.js';
import { written } from '../alias_form.js';
import { inside, kinds, pairFields, roleFields, signer } from '../credential_form.js';
import { Action, Dialog, ErrorBox, Form, Page, State, Table, Time, toast } from '../ui.js';

const formFields = [
  { name: 'name', label: 'Name', required: true, placeholder: 'team-media' },
  { name: 'kind', label: 'Kind', type: 'select', options: kinds },
  ...inside(pairFields, '', (v) => v.kind === 'static'),
  ...inside(roleFields, '', (v) => v.kind === 'role'),
];

const columns = [
  { name: 'name', title: 'Name', label: false, width: 'minmax(8rem, 1.5fr)', cell: (c) => html`<a href=${link(['credentials', c.name])}>${c.name}</a>` },
  { name: 'kind', title: 'Kind', label: false, width: '7rem', cell: (c) => c.kind },
  { name: 'state', title: 'State', label: false, width: '6.5rem', cell: (c) => html`<${State} of=${c.state} />` },
  { name: 'scope', title: 'Scope', label: false, width: '7rem', cell: (c) => html`<${State} of=${c.scope} />` },
  { name: 'id', title: 'Key or role', wide: true, width: 'minmax(11rem, 2fr)', cell: (c) => html`<code title=${signer(c)}>${signer(c) || '–'}</code>` },
  { name: 'age', title: 'Key since', width: '7rem', cell: (c) => html`<${Time} at=${c.access_key_id ? c.rotated_at || c.created_at : null} none="–" />` },
  { name: 'aliases', title: 'Aliases', width: '5rem', cell: (c) => c.aliases.length },
];

export default function Credentials() {
  const [list, setList] = useState([]);
  const [state, setState] = useState({ loading: true });
  const [adding, setAdding] = useState(false);
  const [q, setQ] = useState('');
  useEffect(() => {
    const stop = new AbortController();
    (async () => {
      try {
        for await (const page of pages('/credentials', 'credentials', { signal: stop.signal })) setList((all) => [...all, ...page]);
        setState({});
      } catch (error) {
        if (!stop.signal.aborted) setState({ error });
      }
    })();
    return () => stop.abort();
  }, []);
  const add = async (form) => {
    const { data } = await call('POST', '/credentials', { body: written(form) });
    toast(`Credential ${data.name} registered`);
    location.hash = link(['credentials', data.name]);
  };
  const shown = list.filter((c) => `${c.name} ${c.kind} ${signer(c)}`.toLowerCase().includes(q.toLowerCase()));
  return html`<${Page} title="Credentials" lead=${state.loading ? `${number(list.length)} so far…` : `${number(shown.length)}${shown.length === list.length ? '' : ` of ${number(list.length)}`}`}
      actions=${html`<${Action} role="alias" kind="primary" onClick=${() => setAdding(true)}>Register a credential<//>`}>
    ${state.error && html`<${ErrorBox} error=${state.error} />`}
    <form class="bar" role="search" onSubmit=${(e) => e.preventDefault()}><div class="field"><label for="q">Search</label>
      <input id="q" type="search" value=${q} placeholder="name, kind, access key id, role" onInput=${(e) => setQ(e.target.value)} /></div></form>
    <${Table} label="Credentials" columns=${columns} rows=${shown} cardHeight=${64} empty=${state.loading ? 'Loading…' : 'No credential.'} />
    ${adding && html`<${Dialog} title="Register a credential" onClose=${() => setAdding(false)}>
      <${Form} fields=${formFields} initial=${{ kind: 'static' }} submit="Register" role="alias" onSubmit=${add} onCancel=${() => setAdding(false)} /><//>`}
  <//>`;
}
