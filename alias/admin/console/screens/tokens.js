// Admin tokens: who may do what.
import { html, useState } from '../preact.js';
import { call, get, path } from '../api.js';
import { Action, allows, Badge, Card, Code, Confirm, Dialog, Form, Grid, Loaded, Page, Time, toast, useLoad, useSession } from '../ui.js';

// roles says what each role allows, the least first.
const roles = [
  { value: 'read', label: 'read', hint: 'Read everything but tokens and backups. Every other role includes it.' },
  { value: 'purge', label: 'purge', hint: 'Drop pictures from the cache.' },
  { value: 'alias', label: 'alias', hint: 'Register, change and remove aliases and static credentials, and verify.' },
  { value: 'provision', label: 'provision', hint: 'Make, rotate and remove IAM users and their keys.' },
  { value: 'admin', label: 'admin', hint: 'Everything, including tokens and backups.' },
];

const days = { 1: '1 day', 7: '7 days', 30: '30 days', 90: '90 days', 365: '1 year' };

const fields = [
  { name: 'name', label: 'Name', required: true, placeholder: 'deploy', hint: 'The audit and the log name it.' },
  { name: 'ends', label: 'Expires', type: 'select', options: [...Object.entries(days).map(([value, text]) => ({ value, label: `in ${text}` })), { value: '', label: 'never' }] },
  { name: 'roles', label: 'Roles', type: 'checks', options: roles, wide: true, required: true },
  { name: 'buckets', label: 'Buckets', type: 'lines', wide: true, placeholder: 'acme-*', hint: 'Names or patterns, one a line: the token sees and changes only aliases of such buckets. Empty: all.' },
];

// expiry is the time in some days, for the API.
export const expiry = (n, now = Date.now()) => (n ? new Date(now + Number(n) * 86400000).toISOString().replace(/\.\d+Z/, 'Z') : null);

export default function Tokens() {
  const session = useSession();
  const may = allows(session, 'admin') && !session.buckets?.length;
  const tokens = useLoad(async (signal) => (may ? get('/tokens', {}, signal) : null), [may]);
  const [making, setMaking] = useState(false);
  const [made, setMade] = useState(null);
  const [asked, setAsked] = useState(null);
  const make = async ({ ends, buckets, ...form }) => {
    const { data } = await call('POST', '/tokens', { body: { ...form, buckets: buckets.filter((b) => b.trim()), expires_at: expiry(ends) } });
    setMaking(false);
    setMade(data);
    tokens.reload();
  };
  const revoke = async () => {
    await call('DELETE', path`/tokens/${asked.name}`);
    toast(`The token ${asked.name} is revoked`);
    tokens.reload();
  };
  return html`<${Page} title="Tokens" lead="Named admin tokens with roles, for people and programs. The registry stores only their SHA-256."
      actions=${html`<${Action} role="admin" kind="primary" disabled=${!may} onClick=${() => setMaking(true)}>Make a token<//>`}>
    ${may ? html`<${Loaded} of=${tokens} what="the tokens">${({ tokens: list }) => html`<${Grid} label="Tokens" head=${['Name', 'Roles', 'Buckets', 'Created', 'Expires', 'Last used', html`<span class="visually-hidden">Actions</span>`]} empty="There are no named tokens: only the one of the configuration, which is named admin."
      rows=${list.map((t) => [html`<strong>${t.name}</strong>${t.name === session.name && ' (yours)'}`, html`<span class="badges">${t.roles.map((r) => html`<${Badge} kind=${r === 'admin' ? 'warn' : ''}>${r}<//>`)}</span>`,
        t.buckets.length ? t.buckets.join(', ') : 'all', html`<${Time} at=${t.created_at} /> <span class="muted">by ${t.created_by}</span>`,
        t.expires_at && Date.parse(t.expires_at) < Date.now() ? html`<${Badge} kind="bad">expired<//>` : html`<${Time} at=${t.expires_at} />`, html`<${Time} at=${t.last_used_at} />`,
        html`<button type="button" class="button small danger" aria-label=${`Revoke ${t.name}`} onClick=${() => setAsked(t)}>Revoke</button>`])} />`}<//>` : html`<div class="box"><p>Only a token with the role admin, for all buckets, sees and makes tokens.</p></div>`}
    ${making && html`<${Dialog} title="Make a token" onClose=${() => setMaking(false)}>
      <${Form} fields=${fields} initial=${{ roles: ['read'], ends: '90', buckets: [] }} role="admin" submit="Make the token" onSubmit=${make} onCancel=${() => setMaking(false)} /><//>`}
    ${made && html`<${Dialog} title=${`The token ${made.name}`} onClose=${() => setMade(null)}>
      <div class="stack"><p>Copy it now: it is shown only once, and the registry has no copy.</p><${Code} text=${made.token} />
      <div class="actions end"><button type="button" class="button primary" onClick=${() => setMade(null)}>I have copied it</button></div></div><//>`}
    ${asked && html`<${Confirm} title=${`Revoke the token ${asked.name}?`} word=${asked.name} action="Revoke" onConfirm=${revoke} onClose=${() => setAsked(null)}>
      <p>Calls with it are refused at once, and its sessions in the console end. ${asked.name === session.name && 'You are signed in with this token.'}</p><//>`}
    <${Card} title="What the roles allow"><dl class="roles">${roles.map((r) => html`<div><dt><${Badge} kind=${r.value === 'admin' ? 'warn' : ''}>${r.label}<//></dt><dd>${r.hint}</dd></div>`)}</dl><//>
  <//>`;
}
