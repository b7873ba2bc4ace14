// The form that provisions an alias, with the policy of the request that is typed.
import { html, useEffect, useRef, useState } from '../preact.js';
import { call, get } from '../api.js';
import { link, nest } from '../format.js';
import { written } from '../alias_form.js';
import { Action, allows, Card, Code, ErrorBox, Facts, Form, Page, toast, useLoad, useSession } from '../ui.js';

const more = 'Details of the user';

const users = [
  { value: 'new', label: 'a new IAM user' },
  { value: 'reuse', label: 'the user of a credential' },
  { value: 'adopt', label: 'a user made by hand' },
];

const policies = {
  '': ['as the credential has it', 'An inline policy gets this location too; read-only-access reads it already.'],
  inline: ['inline: this location only', 'One statement in the user itself: s3:GetObject on the bucket and prefix, nothing else. Recommended.'],
  managed: ['managed: a policy of its own', 'A customer managed policy, named after the bucket and attached to the user, so that it shows in the list of policies.'],
  'read-only-access': ['read-only-access: every bucket', 'The AWS managed AmazonS3ReadOnlyAccess: reads and lists every bucket of the account. Only with --allow-wide-scope.'],
};

// shown are the fields that a way of getting a user has.
const only = (...ways) => (v) => ways.includes(v.way);

const fieldsOf = (v, credentials) => [
  { name: 'alias', label: 'Alias', required: true, placeholder: 'shop', hint: 'The first segment of the URL. It never changes.' },
  { name: 'bucket', label: 'Bucket', required: true, placeholder: 'acme-media', hint: '--provision-buckets must allow it.' },
  { name: 'prefix', label: 'Prefix', placeholder: 'website-images/', hint: 'In front of every key. Empty: the whole bucket.' },
  { name: 'region', label: 'Region', placeholder: 'eu-west-1', hint: 'Required for AWS.' },
  { name: 'endpoint', label: 'Endpoint', placeholder: 'https://s3.example.com', hint: 'Of an S3-compatible server. Empty: AWS.' },
  { name: 'path_style', label: 'Path style: host/bucket/key instead of bucket.host/key', type: 'checkbox' },
  { name: 'probe.inside', label: 'Key that it must read', placeholder: `${v.prefix || ''}a.jpg`, hint: 'A whole key in the bucket. It becomes the canary, whose picture you see at the end.' },
  { name: 'probe.outside', label: 'Key that it must not read', placeholder: 'private/b.jpg', hint: 'A whole key outside the prefix: proves that the key cannot read there.' },
  { name: 'way', label: 'Read with', type: 'select', options: users },
  { name: 'credential', label: 'Credential', required: true, list: credentials, when: only('reuse'), hint: 'A provisioned one. Its user gets this location too, and its key is checked again.' },
  { name: 'adopt', label: 'IAM user', required: true, placeholder: 'ixmage-s3read', when: only('adopt'), hint: '--adopt-users must allow it. The user gets a second key, and keeps its key and policies.' },
  { name: 'retire', label: 'Retire: make the previous key of the user inactive, a day after its last use', type: 'checkbox', when: only('adopt') },
  { name: 'policy', label: 'Policy', type: 'select', options: Object.entries(policies).filter(([p]) => p || v.way === 'reuse').map(([value, [label]]) => ({ value, label })), hint: policies[v.policy ?? 'inline']?.[1] },
  { name: 'user_name', label: 'Name of the user', group: more, when: only('new'), placeholder: 'ixmage-s3read-shop-…', hint: 'Empty: made from the alias.' },
  { name: 'account', label: 'Account', group: more, when: only('new', 'adopt'), hint: "An entry of --accounts, in which the user is. Empty: the account of the server's own credentials." },
  { name: 'bucket_owner', label: 'Bucket owner', group: more, placeholder: '123456789012', hint: '12-digit account id: S3 then refuses a bucket of another account.' },
  { name: 'kms_key_arn', label: 'KMS key', group: more, placeholder: 'arn:aws:kms:…', hint: 'If the objects are encrypted with it: the key may decrypt, through S3 only.' },
  { name: 'rotate_every', label: 'Rotate the key every', group: more, placeholder: '2160h', hint: 'Empty: only when an operator rotates it.' },
  { name: 'tags', label: 'Tags', type: 'lines', group: more, when: only('new'), placeholder: 'team=web', hint: 'key=value, one a line; the keys that --provision-tags allows.' },
];

// request makes the body of the call from the values of the form.
export function request({ way, tags, ...form }) {
  const body = nest(written(form));
  const list = (tags ?? []).filter((t) => t.trim()).map((t) => t.split(/=(.*)/s));
  if (list.length) body.tags = Object.fromEntries(list.map(([k, v = '']) => [k.trim(), v.trim()]));
  if (way === 'reuse') body.credential ??= '';
  if (way === 'adopt') body.adopt ??= '';
  return body;
}

// split parts the problems of a plan: those of fields that have a value, which are shown
// there, and the names of those that are still empty.
export function split(problems, values) {
  const filled = (name) => ![undefined, '', false].includes(values[name]);
  const known = problems.map((p) => ({ ...p, base: p.field.replace(/\[.*/, '') }));
  return { wrong: known.filter((p) => filled(p.base)), missing: [...new Set(known.filter((p) => !filled(p.base)).map((p) => p.base))] };
}

let kept = { way: 'new', policy: 'inline' }; // what was typed last: a failed request can be sent again

export default function Provision() {
  const [values, setValues] = useState(kept);
  const session = useSession();
  const server = useLoad((signal) => get('/server', {}, signal), []);
  const credentials = useLoad(async (signal) => (await get('/credentials', { limit: 1000 }, signal)).credentials.filter((c) => c.kind === 'provisioned').map((c) => c.name), []);
  const fields = fieldsOf(values, credentials.data ?? []);
  const visible = Object.fromEntries(fields.filter((f) => !f.when || f.when(values)).map((f) => [f.name, values[f.name]]));
  const plan = usePlan(visible, allows(session, 'provision'));
  const found = split(plan.problems, visible);
  const change = (next) => {
    const policy = next.way === values.way ? next.policy : next.way === 'reuse' ? '' : next.policy || 'inline';
    setValues((kept = { ...next, policy }));
    return kept;
  };
  const submit = async (form) => {
    const { data } = await call('POST', '/provision', { body: request(form) });
    toast(`Provisioning ${data.alias} has begun`);
    location.hash = link(['operations', data.id]);
  };
  return html`<${Page} title="Provision an alias" lead="ixmage makes an IAM user whose key can read only this location, proves that, and opens the alias."
      actions=${html`<${Action} href="#/register">Use a role or a key pair<//>`}>
    ${server.data && !server.data.provisioning && html`<div class="box warn"><p><strong>Provisioning is off on this server.</strong></p>
      <p>Start it with <code>--provision</code>. The plan shows the commands that do the same by hand; a key pair made so can be <a href="#/register">registered</a>.</p></div>`}
    <div class="columns"><${Card} title="Request"><${Form} fields=${fields} initial=${values} problems=${found.wrong} role="provision" submit="Provision" onChange=${change} onSubmit=${submit} onCancel=${() => history.back()} /><//>
      <${Plan} plan=${plan} missing=${found.missing.map((n) => fields.find((f) => f.name === n)?.label ?? n)} may=${allows(session, 'provision')} /></div><//>`;
}

// usePlan asks for the plan of a request while it is typed: {data, problems, error, loading}.
function usePlan(values, may) {
  const [state, setState] = useState({ problems: [], loading: may });
  const text = JSON.stringify(request(values));
  const first = useRef(true);
  useEffect(() => {
    if (!may) return undefined;
    const stop = new AbortController();
    setState((s) => ({ ...s, loading: true }));
    const timer = setTimeout(() => call('POST', '/provision/plan', { body: JSON.parse(text), signal: stop.signal }).then(
      ({ data }) => setState({ data, problems: [] }),
      (error) => stop.signal.aborted || setState((s) => (error.errors?.length ? { data: s.data, problems: error.errors, old: true } : { data: s.data, problems: [], error, old: true })),
    ), first.current ? 0 : 350);
    first.current = false;
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [text, may]);
  return state;
}

function Plan({ plan, missing, may }) {
  const p = plan.data;
  return html`<section class="card plan ${plan.old ? 'old' : ''}" aria-labelledby="plan-title" aria-busy=${plan.loading ? 'true' : undefined}>
    <header><h2 id="plan-title">What will be made</h2></header>
    ${!may && html`<p class="muted">The plan needs a token with the role provision.</p>`}
    ${plan.error && html`<${ErrorBox} error=${plan.error} />`}
    <p class="muted" role="status">${missing.length > 0 ? `The policy appears here while you type. Still needed: ${missing.join(', ')}.` : plan.problems.length > 0 ? 'See the marked fields.' : p && 'The request is complete. IAM and S3 have not been called yet.'}</p>
    ${p && html`
      <${Facts} of=${[
        ['IAM user', html`<code>${p.user.path}${p.user.name}</code>`], ['Policy', p.policy_name ? html`${p.policy} <code>${p.policy_name}</code>` : p.policy],
        ['Boundary', p.user.boundary ? html`<code>${p.user.boundary}</code>` : 'none'], Object.keys(p.tags).length > 0 && ['Tags', Object.entries(p.tags).map(([k, v]) => `${k}=${v}`).join(', ')],
      ]} />
      ${p.policy_document && html`<div><p class="muted">The policy document</p><${Code} text=${JSON.stringify(p.policy_document, null, 2)} /></div>`}
      <details><summary>${p.steps.length} steps</summary><ol class="plain">${p.steps.map((s) => html`<li><strong>${s.name}</strong> <span class="muted">${s.detail}</span></li>`)}</ol></details>
      ${p.commands.length > 0 && html`<details><summary>The same by hand</summary><${Code} text=${p.commands.join('\n')} /></details>`}`}</section>`;
}
