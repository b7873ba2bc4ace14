// Users and keys in IAM that belong to no credential.
import { html, useState } from '../preact.js';
import { call, get, path } from '../api.js';
import { link } from '../format.js';
import { Action, Badge, Card, Confirm, Loaded, Page, Time, toast, useLoad } from '../ui.js';

// meaning explains each kind, with the remedy.
const meaning = {
  user: 'A user under the path of this installation that belongs to no credential.',
  key: 'A key that is not in the registry. It is made inactive when it is unused: find out what uses it.',
  policy: 'Somebody changed a policy of the user: undo the change.',
  boundary: 'Somebody changed the permissions boundary of the user: undo the change.',
  'missing-user': 'The user of a credential was deleted: provision again.',
  generation: 'Another copy of the registry has acted, or somebody changed the tags. Stop the copy, or reclaim the user.',
  leaked: 'AWS found the key in public: rotate with emergency, then detach the quarantine policy.',
};

export default function Orphans() {
  const report = useLoad((signal) => get('/orphans', {}, signal), []);
  const [asked, setAsked] = useState(null);
  const close = () => setAsked(null);
  const remove = async () => {
    await call('DELETE', path`/orphans/${asked.o.user}`, { query: { account: asked.o.account } });
    toast(`The user ${asked.o.user} is deleted`);
    report.reload();
  };
  const reclaim = async () => {
    await call('POST', path`/credentials/${asked.o.credential}/reclaim`);
    toast(`This registry acts on the user of ${asked.o.credential} again`);
    report.reload();
  };
  return html`<${Page} title="Orphans" lead="Users and keys in IAM that belong to no credential, as the last search found them."
      actions=${html`<${Action} onClick=${report.reload}>Reload<//>`}>
    <${Loaded} of=${report} what="the report">${(r) => html`
      <p class="muted">${r.scanned_at ? html`Searched <${Time} at=${r.scanned_at} />.` : 'IAM was not searched yet.'}</p>
      ${r.skipped && html`<div class="box warn"><p>Not everything was searched and cleaned up: ${r.skipped}</p></div>`}
      ${r.orphans.length === 0 ? html`<${Card}><p>${r.scanned_at ? 'No orphans.' : 'The first search runs soon after the start.'}</p><//>`
        : html`<ul class="finds" aria-label="Orphans">${r.orphans.map((o) => html`<li class="card">
          <header><h2><${Badge} kind=${o.kind === 'leaked' ? 'bad' : 'warn'}>${o.kind}<//> <code>${o.user}</code></h2><div class="actions">
            ${o.kind === 'generation' && o.credential && html`<${Action} role="provision" onClick=${() => setAsked({ o, reclaim: true })}>Reclaim<//>`}
            ${o.kind === 'user' && html`<${Action} role="provision" kind="danger" onClick=${() => setAsked({ o })}>Remove the user<//>`}</div></header>
          ${o.detail && html`<p>${o.detail}</p>`}
          <p class="muted">${meaning[o.kind]} ${o.account && html`Account ${o.account}. `}${o.state && html`State: ${o.state}. `}${o.access_key_id && html`Key <code>${o.access_key_id}</code>. `}${
            o.credential && html`Credential <a href=${link(['credentials', o.credential])}>${o.credential}</a>. `}${o.found_at && html`Found <${Time} at=${o.found_at} />.`}</p></li>`)}</ul>`}`}<//>
    ${asked && !asked.reclaim && html`<${Confirm} title="Remove this IAM user?" word=${asked.o.user} action="Remove the user" onConfirm=${remove} onClose=${close}>
      <p>The user <code>${asked.o.user}</code>${asked.o.account && ` of the account ${asked.o.account}`}, its keys and its policies are deleted. Programs that use such a key fail at once. ixmage refuses to delete a user that it did not make.</p><//>`}
    ${asked?.reclaim && html`<${Confirm} title="Reclaim the user?" kind="primary" action="Reclaim" onConfirm=${reclaim} onClose=${close}>
      <p>This registry acts on the user of <a href=${link(['credentials', asked.o.credential])}>${asked.o.credential}</a> from now on. Stop the other copy of the registry first:
        otherwise both change the same user.</p><//>`}
  <//>`;
}
