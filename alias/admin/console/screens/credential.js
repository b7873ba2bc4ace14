// One credential: its key or role, its aliases, rotation, replacement and deletion.
import { html, useState } from '../preact.js';
import { call, path } from '../api.js';
import { link } from '../format.js';
import { written } from '../alias_form.js';
import { Action, Badge, Card, Confirm, Dialog, Facts, Form, Loaded, Page, State, Time, change, toast, useLoad } from '../ui.js';
import { pairFields, roleFields } from '../credential_form.js';

export default function Credential({ params: { name } }) {
  const credential = useLoad((signal) => call('GET', path`/credentials/${name}`, { signal }), [name]);
  return html`<${Loaded} of=${credential} what="the credential" title=${name}>${(answer) => html`<${Shown} credential=${credential} c=${answer.data} />`}<//>`;
}

// follow shows the operation that a call has started.
function follow({ data, location: at }, otherwise) {
  if (at || data?.steps) location.hash = link(['operations', data?.id ?? at.split('/').pop()]);
  else otherwise();
}

function Shown({ credential, c }) {
  const [open, setOpen] = useState('');
  const close = () => setOpen('');
  const at = path`/credentials/${c.name}`;
  const provisioned = c.kind === 'provisioned';
  const pair = c.kind === 'static';
  const role = c.kind === 'role';
  const remove = async () => follow(await change(credential, 'DELETE', at), () => {
    toast(`Credential ${c.name} removed`);
    location.hash = link(['credentials']);
  });
  const write = (method) => async (form) => {
    try {
      credential.set(await change(credential, method, at, method === 'PUT' ? written(form) : form));
      toast(`Credential ${c.name} changed`);
    } catch (err) {
      if (err.status !== 412) throw err;
      toast(err.message, 'bad'); // the form closes: it sends all its values, and was filled with old ones
    }
    close();
  };
  return html`<${Page} title=${c.name} lead=${{ static: 'A key pair that an operator registered', provisioned: 'A key pair that ixmage made', anonymous: 'No key: requests are not signed',
      role: 'A role: STS gives a session for each alias', default: "The server's own credentials" }[c.kind]} actions=${html`
      ${provisioned && html`<${Action} role="provision" onClick=${() => setOpen('rotate')}>Rotate<//>`}
      ${pair && html`<${Action} role="alias" onClick=${() => setOpen('replace')}>Replace the key pair<//>
        <${Action} role="alias" onClick=${() => setOpen('expect')}>Change its expected scope<//>`}
      ${role && html`<${Action} role="alias" onClick=${() => setOpen('role')}>Change the role<//>`}
      <${Action} role=${provisioned ? 'provision' : 'alias'} kind="danger" onClick=${() => setOpen('remove')}>Remove<//>`} />
    ${c.state !== 'active' && html`<div class="box ${c.state === 'failed' ? 'bad' : ''}"><p>Its state is <${State} of=${c.state} />. <a href=${link(['operations'], { credential: c.name })}>See its operations</a>.</p></div>`}
    <div class="columns">
      <${Card} title="Overview"><${Facts} of=${[
        ['State', html`<${State} of=${c.state} />`], ['Scope', html`<${State} of=${c.scope} />`], ['Kind', c.kind],
        c.access_key_id && ['Access key id', html`<code>${c.access_key_id}</code>`],
        ...(role ? roleFacts(c) : []), c.expect && ['Expected scope', 'read and list every bucket'],
        ['Created', html`<${Time} at=${c.created_at} />`], c.access_key_id && ['Rotated', html`<${Time} at=${c.rotated_at} />`],
        ['Verified', html`<${Time} at=${c.verified_at} />`], ['Revision', c.revision],
      ]} /><//>
      <${Card} title=${`Aliases (${c.aliases.length})`}>${c.aliases.length === 0 ? html`<p class="muted">No alias uses it.</p>`
        : html`<ul class="names">${c.aliases.slice(0, 200).map((a) => html`<li><a href=${link(['aliases', a])}>${a}</a></li>`)}</ul>
          ${c.aliases.length > 200 && html`<p class="muted">and ${c.aliases.length - 200} more</p>`}`}<//>
      ${c.user && html`<${Card} title="IAM user"><${Facts} of=${[
        ['Name', html`<code>${c.user.name}</code>`], ['ARN', html`<code>${c.user.arn}</code>`], ['Policy', c.user.policy],
        c.user.adopted && ['Adopted', 'yes: an operator made the user'], c.user.kept_key && ['Previous key', html`<code>${c.user.kept_key}</code>`],
      ]} /><p><a href=${link(['operations'], { credential: c.name })}>Operations of this credential</a></p><//>`}
    </div>
    ${open === 'rotate' && html`<${Rotate} name=${c.name} onClose=${close} />`}
    ${open === 'replace' && html`<${Dialog} title="Replace the key pair" onClose=${close}><p class="muted">Cached pictures stay, and requests under way go on with the old key.</p>
      <${Form} fields=${pairFields} initial=${{ expect: c.expect ?? '' }} role="alias" submit="Replace" onSubmit=${write('PUT')} onCancel=${close} /><//>`}
    ${open === 'expect' && html`<${Dialog} title="Expected scope of the key" onClose=${close}>
      <${Form} fields=${pairFields.slice(2)} initial=${{ expect: c.expect ?? '' }} role="alias" onSubmit=${write('PATCH')} onCancel=${close} /><//>`}
    ${open === 'role' && html`<${Dialog} title="Change the role" onClose=${close}><p class="muted">Its sessions are made anew. Cached pictures stay.</p>
      <${Form} fields=${roleFields} initial=${c} role="alias" submit="Change" onSubmit=${write('PUT')} onCancel=${close} /><//>`}
    ${open === 'remove' && html`<${Confirm} title=${`Remove the credential ${c.name}?`} word=${c.name} action="Remove" onConfirm=${remove} onClose=${close}>
      <p>${provisioned ? 'Its key, policy and IAM user are deleted, unless an operator made the user.' : pair ? 'The key pair is deleted from the registry. The key itself stays valid.' : 'It is deleted from the registry. Nothing changes in IAM.'}
        ${c.aliases.length > 0 && ' Aliases use it, so the server refuses until they have another one or are deleted.'}</p><//>`}`;
}

// roleFacts are what a role has; what it has not is left out.
const roleFacts = (c) => [
  ['Role', html`<code>${c.role_arn}</code>`], c.external_id && ['External id', html`<code>${c.external_id}</code>`],
  ['Source', c.source === 'default' ? "the server's own credentials" : html`<a href=${link(['credentials', c.source])}>${c.source}</a>`],
  ['Sessions', `live for ${c.duration}`],
  ['Session policy', c.session_policy === 'none' ? html`<${Badge} kind="warn">none<//> they can do all that the role can` : 'each reads the location of its alias'],
  c.kms_key_arn && ['KMS key', html`<code>${c.kms_key_arn}</code>`], c.region && ['Region of STS', c.region], c.account && ['Account', c.account],
  c.source_identity && ['Source identity', 'yes'],
];

// Rotate asks how, rotates, and shows the operation.
export function Rotate({ name, onClose }) {
  const [emergency, setEmergency] = useState(false);
  const rotate = async () => follow(await call('POST', path`/credentials/${name}/rotate`, { body: { emergency } }), onClose);
  return html`<${Confirm} title=${`Rotate the key of ${name}?`} kind=${emergency ? 'danger' : 'primary'} action=${emergency ? 'Rotate and revoke at once' : 'Rotate'} onConfirm=${rotate} onClose=${onClose}>
    <p>ixmage makes a new key, proves it, and uses it. The previous key stays valid until no request uses it, so no request fails.</p>
    <div class="field check"><label for="emergency">Emergency: the key has leaked</label><input id="emergency" type="checkbox" checked=${emergency} onInput=${(e) => setEmergency(e.target.checked)} />
      <p class="hint">The present keys of the user are made inactive as soon as the new key is proven, and sessions that were made with them are denied.</p></div><//>`;
}
