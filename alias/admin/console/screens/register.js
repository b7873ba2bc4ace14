// The form that registers an alias.
import { html, useState } from '../preact.js';
import { call, get } from '../api.js';
import { link, nest } from '../format.js';
import { aliasFields, written } from '../alias_form.js';
import { inside, roleFields } from '../credential_form.js';
import { Card, Form, Page, toast, useLoad } from '../ui.js';

const ways = [
  { value: 'pair', label: 'a key pair' },
  { value: 'role', label: 'a role' },
  { value: 'name', label: 'a registered credential' },
  { value: 'default', label: "the server's own credentials" },
  { value: 'public', label: 'no key: the bucket is public' },
];

export default function Register() {
  const credentials = useLoad(async (signal) => (await get('/credentials', { limit: 1000 }, signal)).credentials, []);
  const [fields] = useState(() => [
    { name: 'name', label: 'Name', required: true, placeholder: 'shop', hint: 'The first segment of the URL. It never changes.' },
    ...aliasFields.slice(0, 2),
    { name: 'way', label: 'Read with', type: 'select', options: ways },
    { name: 'credential.access_key_id', label: 'Access key id', required: true, when: (v) => v.way === 'pair' },
    { name: 'credential.secret_access_key', label: 'Secret access key', type: 'password', required: true, when: (v) => v.way === 'pair' },
    ...inside(roleFields, 'credential', (v) => v.way === 'role'),
    { name: 'credential', label: 'Credential', required: true, when: (v) => v.way === 'name' },
    ...aliasFields.slice(2),
  ]);
  const submit = async ({ way, credential, ...form }) => {
    const body = nest(written(form));
    if (way === 'name') body.credential = credential ?? '';
    if (way === 'public') body.credential = null;
    if (way === 'pair') body.credential ??= {};
    if (way === 'role' || way === 'default') body.credential = { ...body.credential, kind: way };
    const { data } = await call('POST', '/aliases', { body });
    toast(`Alias ${data.name} registered`);
    location.hash = link(['aliases', data.name]);
  };
  const list = credentials.data?.filter((c) => c.kind !== 'anonymous').map((c) => c.name);
  return html`<${Page} title="Register an alias" lead="A public name for a location in a bucket, read with a key pair or a role.">
    <${Card}><${Form} fields=${fields.map((f) => (f.name === 'credential' ? { ...f, list } : f))} initial=${{ way: 'pair', enabled: true }} role="alias"
      submit="Register" onSubmit=${submit} onCancel=${() => history.back()} /><//><//>`;
}
