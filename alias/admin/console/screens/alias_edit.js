// The form that changes an alias.
import { html, useState } from '../preact.js';
import { call, get, path } from '../api.js';
import { link, nest } from '../format.js';
import { aliasFields, changed, label, show, values } from '../alias_form.js';
import { Card, Form, Loaded, Page, toast, useLoad } from '../ui.js';

const fields = (list) => [...aliasFields.slice(0, 2), { name: 'credential', label: 'Credential', required: true, list, hint: 'The name of a registered one.' }, ...aliasFields.slice(2)];
const valuesOf = (a) => ({ ...values(a), credential: a.credential });

export default function AliasEdit({ params: { name } }) {
  const alias = useLoad((signal) => call('GET', path`/aliases/${name}`, { signal }), [name]);
  const credentials = useLoad(async (signal) => (await get('/credentials', { limit: 1000 }, signal)).credentials.map((c) => c.name), []);
  return html`<${Page} title=${`Change ${name}`}><${Loaded} of=${alias} what="the alias">${(answer) => html`
    <${Edit} key=${answer.etag} answer=${answer} list=${credentials.data} reload=${alias.reload} />`}<//><//>`;
}

// Edit starts from one revision. If the alias has another when the form is sent, the
// reader decides: conflict is that revision.
function Edit({ answer: { data: a, etag }, list, reload }) {
  const [before] = useState(() => valuesOf(a));
  const [conflict, setConflict] = useState(null);
  const back = () => { location.hash = link(['aliases', a.name]); };
  const submit = async (_, all) => {
    const edits = changed(before, all);
    if (!Object.keys(edits).length) return back();
    try {
      await call('PATCH', path`/aliases/${a.name}`, { body: nest(edits), match: (conflict ?? { etag }).etag });
    } catch (err) {
      if (err.status !== 412) throw err;
      setConflict({ ...(await call('GET', path`/aliases/${a.name}`)), mine: edits });
      return undefined;
    }
    toast(`${a.name} changed`);
    return back();
  };
  return html`<${Card}>
    ${conflict && html`<${Conflict} before=${before} mine=${conflict.mine} now=${conflict.data} onReload=${reload} />`}
    <${Form} fields=${fields(list)} initial=${before} role="alias" onSubmit=${submit} onCancel=${back} submit=${conflict ? 'Save my changes' : 'Save'} /><//>`;
}

function Conflict({ before, mine, now, onReload }) {
  const theirs = Object.entries(changed(before, valuesOf(now)));
  return html`<div class="box warn" role="alert" tabindex="-1">
    <p><strong>Somebody else has changed this alias since you opened it.</strong> It has revision ${now.revision} now; nothing of yours is saved.</p>
    <ul>${theirs.map(([name, v]) => html`<li>${label(name)}: ${show(before[name])} → ${show(v)}${name in mine && ` (yours: ${show(mine[name])})`}</li>`)}
      ${theirs.length === 0 && html`<li>Its fields are the same as before.</li>`}</ul>
    <p>Save my changes writes the fields that you changed and leaves the others as they are now.</p>
    <button type="button" class="button" onClick=${onReload}>Drop mine and load the current alias</button></div>`;
}
