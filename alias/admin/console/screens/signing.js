// The signing keys of an alias, and signed URLs.
import { html, useState } from '../preact.js';
import { AliasTabs } from '../alias_tabs.js';
import { call, get, path } from '../api.js';
import { link } from '../format.js';
import { encode, urlPath } from '../options.js';
import { Action, Card, Code, Confirm, Dialog, Form, Grid, Loaded, Page, Time, toast, useLoad } from '../ui.js';

export default function Signing({ params: { name }, query }) {
  const alias = useLoad((signal) => get(path`/aliases/${name}`, {}, signal), [name]);
  const keys = useLoad((signal) => get(path`/aliases/${name}/signing-keys`, {}, signal), [name]);
  const server = useLoad((signal) => get('/server', {}, signal), []);
  return html`<${Loaded} of=${alias} what="the alias" title=${name}>${(a) => html`
    <${Page} title=${name} lead=${a.access === 'signed' ? 'Every request to this alias needs a signed URL.' : 'A signed URL may use every option.'} />
    <${AliasTabs} name=${name} current="Signed URLs" />
    <${Loaded} of=${keys} what="the signing keys">${({ signing_keys: list }) => html`
      <${Keys} a=${a} list=${list} reload=${keys.reload} />
      <${Builder} a=${a} newest=${list.at(-1)} query=${query} base=${server.data?.public_url ?? ''} />`}<//>`}<//>`;
}

function Keys({ a, list, reload }) {
  const [asked, setAsked] = useState(null);
  const remove = async () => {
    await call('DELETE', path`/aliases/${a.name}/signing-keys/${asked.kid}`);
    toast(`The signing key ${asked.kid} is deleted`);
    reload();
  };
  const left = asked && list.length - 1;
  return html`<${Card} title="Signing keys" actions=${html`<${MakeKey} name=${a.name} onMade=${reload} />`}>
    <p class="muted">Programs that make signed URLs have one of these secrets. To rotate, make a key, give it to them, and delete the old one when no URL in use is signed with it. <em>Last used</em> is what this server has seen since it started; other nodes have seen other uses.</p>
    <${Grid} label="All signing keys" head=${['Key id', 'Created', 'Last used', html`<span class="visually-hidden">Actions</span>`]} empty="No signing key yet."
      rows=${list.map((k) => [html`<code>${k.kid}</code>`, html`<${Time} at=${k.created_at} />`, html`<${Time} at=${k.last_used_at} none="not known" />`, html`<div class="actions end">
        <${Action} role="alias" kind="danger small" aria-label=${`Delete ${k.kid}`} onClick=${() => setAsked(k)}>Delete<//></div>`])} />
    ${asked && html`<${Confirm} title=${`Delete the signing key ${asked.kid}?`} word=${asked.kid} action="Delete" onConfirm=${remove} onClose=${() => setAsked(null)}>
      <p>Every URL that is signed with ${asked.kid} is answered with 403 at once, wherever it is: on pages, in mails, in apps. This cannot be undone.</p>
      <p>${left > 0 ? `URLs of the other ${left === 1 ? 'key' : `${left} keys`} go on.`
        : a.access === 'signed' ? html`<strong>It is the last key of an alias that answers signed URLs only: no picture of ${a.name} can be fetched then.</strong>`
        : 'It is the last key: then no URL can be signed.'}</p><//>`}<//>`;
}

// MakeKey is the button that makes a signing key, and shows its secret once.
export function MakeKey({ name, onMade }) {
  const [made, setMade] = useState(null);
  const make = async () => setMade((await call('POST', path`/aliases/${name}/signing-keys`)).data);
  const close = () => {
    setMade(null);
    onMade();
  };
  return html`<${Action} role="alias" kind="primary" onClick=${make}>Make a signing key<//>
    ${made && html`<${Dialog} title=${`The signing key ${made.kid}`} onClose=${close}>
      <div class="stack"><p>Copy the secret now: it is shown only once. Whoever has it can sign every URL of ${name}; keep it on servers, and out of web pages and apps.</p>
      <${Code} text=${made.secret} />
      <div class="actions end"><button type="button" class="button primary" onClick=${close}>I have copied it</button></div></div><//>`}`;
}

const lifetimes = [
  { value: '', label: 'never' }, { value: '1h', label: 'in 1 hour' }, { value: '24h', label: 'in 1 day' }, { value: '168h', label: 'in 7 days' }, { value: '720h', label: 'in 30 days' },
];

function Builder({ a, newest, query, base }) {
  const [url, setURL] = useState('');
  if (!newest) return html`<${Card} title="Make a signed URL"><p class="muted">Make a signing key first.</p><//>`;
  const fields = [
    { name: 'path', label: 'Picture', required: true, placeholder: 'logos/a.png', list: [a.canary].filter(Boolean), hint: 'The path after the alias, decoded.' },
    { name: 'query', label: 'Options', placeholder: 'w=640&f=webp', hint: html`Empty: the original. <a href=${link(['aliases', a.name, 'transforms'])}>Try options</a>` },
    { name: 'expires', label: 'Expires', type: 'select', options: lifetimes },
  ];
  const sign = async (values) => setURL(base + (await call('POST', path`/aliases/${a.name}/sign`, { body: signRequest(a.name, values) })).data.url);
  return html`<${Card} title="Make a signed URL">
    <${Form} fields=${fields} initial=${{ path: query.picture || a.canary, query: query.query || '', expires: '168h' }} role="alias" submit="Sign" onSubmit=${sign} onChange=${() => setURL('')} />
    <div role="status">${url && html`<div class="stack"><${Code} text=${url} /><p><a href=${url} target="_blank" rel="noreferrer">Open it</a> <span class="muted">It is signed with ${newest.kid}, the newest key.</span></p></div>`}</div>
    <p class="muted">Programs make such URLs themselves: docs/signed-urls.md has examples in Go, JavaScript, Python and PHP.</p><//>`;
}

// signRequest is the body of the call that signs a URL.
export const signRequest = (name, { path: picture, query, expires }) => ({
  path: urlPath(name, picture ?? '', encode(query ?? '')), ...(expires && { expires_in: expires }),
});
