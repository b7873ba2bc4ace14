// What URLs of an alias may ask for, its templates, and a bench that tries options.
import { html, useRef, useState } from '../preact.js';
import { AliasTabs } from '../alias_tabs.js';
import { call, get, path } from '../api.js';
import { link } from '../format.js';
import { encode, option, unsigned, urlPath, withOption } from '../options.js';
import { Preview } from '../preview.js';
import { changed } from '../alias_form.js';
import { Action, Card, Code, Confirm, Field, Form, Grid, Loaded, Page, change, toast, useLoad } from '../ui.js';
import { MakeKey } from './signing.js';

const ladder = [20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840];

const rules = [
  { name: 'transforms', label: 'Transforms', type: 'radio', options: [
    { value: 'templates', label: 'Templates and widths', hint: 'Everybody may use the templates, and a width, which is rounded up to one of those below; every other option needs a signed URL.' },
    { value: 'signed', label: 'Signed URLs only', hint: 'Every transformation needs a signed URL; the originals do not.' },
    { value: 'open', label: 'Open', hint: 'Everybody may use every option: strangers then decide how much your server computes.' },
    { value: 'off', label: 'Off', hint: 'The pictures are served as they are stored, whatever the URL asks for.' },
  ] },
  { name: 'widths', label: 'Widths', type: 'numbers', byDefault: ladder, placeholder: '640', when: (v) => v.transforms === 'templates',
    hint: 'In pixels. Without a signature, a width above the last one is refused.' },
  { name: 'access', label: 'Access', type: 'radio', options: [
    { value: 'open', label: 'Open', hint: 'Everybody may fetch the originals.' },
    { value: 'signed', label: 'Signed URLs only', hint: 'Every request needs a signed URL, also one for an original.' },
  ] },
];

export default function Transforms({ params: { name } }) {
  const alias = useLoad((signal) => call('GET', path`/aliases/${name}`, { signal }), [name]);
  const keys = useLoad((signal) => get(path`/aliases/${name}/signing-keys`, {}, signal), [name]);
  const server = useLoad((signal) => get('/server', {}, signal), []);
  const [draft, setDraft] = useState({ name: '', query: '', turn: 0 }); // on the bench; turn counts those that were put there
  const bench = useRef();
  const patch = async (body) => {
    const answer = await change(alias, 'PATCH', path`/aliases/${name}`, body);
    alias.set(answer);
    return answer.data;
  };
  const made = () => {
    keys.reload();
    alias.reload(); // its revision is another
  };
  const edit = (template) => {
    setDraft({ ...template, turn: draft.turn + 1 });
    bench.current.scrollIntoView();
    bench.current.querySelector('input').focus({ preventScroll: true });
  };
  return html`<${Loaded} of=${alias} what="the alias" title=${name}>${({ data: a }) => html`
    <${Page} title=${name} lead="Its pictures in other sizes, crops and formats." />
    <${AliasTabs} name=${name} current="Transforms" />
    <${Off} state=${server.data?.transforms} mode=${a.transforms} />
    <${Card} title="Who may ask for what"><${Rules} a=${a} patch=${patch} /><//>
    <${Templates} a=${a} patch=${patch} onEdit=${edit} />
    <div ref=${bench}><${Bench} a=${a} draft=${draft} setDraft=${setDraft} patch=${patch} keys=${keys} onMade=${made} server=${server.data} /></div>`}<//>`;
}

// Off says why no picture is transformed. state is undefined while it is not known.
function Off({ state, mode }) {
  if (mode === 'off') return html`<div class="box"><p>Transforms of this alias are off: a query changes nothing. Choose below what URLs may ask for.</p></div>`;
  if (!state || state.on) return null;
  return html`<div class="box warn"><p><strong>This server transforms no pictures</strong></p><p>${state.detail}.</p>
    <p>Build the worker with <code>make worker</code>, and start the server with <code>--transform-worker</code> and its path. Until then a query changes nothing; what is set below is kept.</p></div>`;
}

const rulesOf = (a) => Object.fromEntries(rules.map((f) => [f.name, a[f.name]]));

// Rules sends what was changed in the form, and nothing that somebody else has changed since it was filled.
function Rules({ a, patch }) {
  const [before, setBefore] = useState(() => rulesOf(a));
  const save = async (values) => {
    const edits = changed(before, values);
    if (edits.widths === undefined) delete edits.widths; // hidden
    const now = rulesOf(Object.keys(edits).length ? await patch(edits) : a);
    setBefore(now);
    toast('Saved');
    return now;
  };
  return html`<${Form} fields=${rules} initial=${before} role="alias" onSubmit=${save} />`;
}

function Templates({ a, patch, onEdit }) {
  const [asked, setAsked] = useState(null);
  const list = Object.entries(a.templates).sort(([x], [y]) => (x < y ? -1 : 1));
  const remove = async () => {
    await patch({ templates: { [asked]: null } });
    toast(`The template ${asked} is deleted`);
  };
  return html`<${Card} title="Templates" actions=${html`<${Action} role="alias" onClick=${() => onEdit({ name: '', query: '' })}>Add a template<//>`}>
    <p class="muted">A name for some options: <code>?t=thumb</code>. What a template sets, a URL cannot change; it can add other options as far as the alias allows them.</p>
    <${Grid} label="All templates" head=${['Name', 'Options', html`<span class="visually-hidden">Actions</span>`]} empty="No template yet."
      rows=${list.map(([name, query]) => [html`<strong>${name}</strong>`, html`<code>${query}</code>`, html`<div class="actions end">
        <button type="button" class="button small" aria-label=${`Try or edit ${name}`} onClick=${() => onEdit({ name, query })}>Try or edit</button>
        <${Action} role="alias" kind="danger small" aria-label=${`Delete ${name}`} onClick=${() => setAsked(name)}>Delete<//></div>`])} />
    ${asked && html`<${Confirm} title=${`Delete the template ${asked}?`} action="Delete" onConfirm=${remove} onClose=${() => setAsked(null)}>
      <p>URLs with <code>?t=${asked}</code> are answered with 400 from then on. Look for pages that have them first.</p><//>`}<//>`;
}

// Common options have a control each; the others are typed.
const controls = [
  { name: 'w', label: 'Width', inputmode: 'numeric', placeholder: '240' },
  { name: 'h', label: 'Height', inputmode: 'numeric', placeholder: '240' },
  { name: 'fit', label: 'Fit', type: 'select', options: [{ value: '', label: 'default' }, 'contain', 'cover', 'fill', 'inside', 'outside'] },
  { name: 'gravity', label: 'Gravity', list: ['center', 'north', 'northeast', 'east', 'southeast', 'south', 'southwest', 'west', 'northwest', 'smart', '0.5,0.3'], placeholder: 'center' },
  { name: 'f', label: 'Format', type: 'select', options: [{ value: '', label: 'auto' }, 'jpeg', 'png', 'webp', 'avif', 'gif'] },
  { name: 'q', label: 'Quality', inputmode: 'numeric', placeholder: '80' },
];

const browsers = [
  { value: 'image/avif,image/webp,*/*', label: 'AVIF and WebP' }, { value: 'image/webp,*/*', label: 'WebP' }, { value: '*/*', label: 'neither' },
];

const remembered = (name) => `ixmage-preview-${name}`;

// Bench tries options on a picture, and keeps them as a template.
function Bench({ a, draft, setDraft, patch, keys, onMade, server }) {
  const [picture, setPicture] = useState(sessionStorage.getItem(remembered(a.name)) || a.canary);
  const [accept, setAccept] = useState(browsers[0].value);
  const [problems, setProblems] = useState([]);
  const query = encode(draft.query);
  const idle = a.transforms === 'off' ? 'Transforms of this alias are off.' : server?.transforms && !server.transforms.on ? 'This server transforms no pictures.' : '';
  const show = (key) => {
    setPicture(key);
    sessionStorage.setItem(remembered(a.name), key);
  };
  const set = (text) => setDraft({ ...draft, query: text });
  const explain = (error) => {
    if (!error.message.includes(' 403 signature ') || keys.data?.signing_keys.length !== 0) return null;
    return html`<div class="box warn"><p>${a.access === 'signed' ? 'Every request to this alias needs a signature' : 'These options need a signature'}, and the alias has no signing key.</p>
      <${MakeKey} name=${a.name} onMade=${onMade} /></div>`;
  };
  return html`<${Card} title="Try options">
    <div class="fields"><${Field} field=${{ name: 'picture', label: 'Picture', list: [...new Set([a.canary, picture].filter(Boolean))], placeholder: 'logos/a.png', hint: 'The path after the alias, decoded.' }} value=${picture} set=${show} />
      <${Field} field=${{ name: 'accept', label: 'A browser that shows', type: 'select', options: browsers, hint: 'Decides the format if it is auto.' }} value=${accept} set=${setAccept} /></div>
    <div class="fields narrow">${controls.map((f) => html`<${Field} key=${f.name} field=${f} value=${option(draft.query, f.name)} set=${(v) => set(withOption(draft.query, f.name, v))} />`)}</div>
    <${Field} field=${{ name: 'query', label: 'Options', placeholder: 'w=240&h=240&fit=cover', wide: true, hint: 'As in the query of a URL. All of them are in docs/transforms.md.' }} value=${draft.query} problems=${problems} set=${set} />
    <${Preview} turn=${`${a.revision} ${keys.data?.signing_keys.length}`} name=${a.name} picture=${picture} query=${query} accept=${accept} onProblems=${setProblems} explain=${explain} idle=${idle} />
    ${query && !idle && problems.length === 0 && html`<${Who} a=${a} query=${query} picture=${picture} base=${server?.public_url} />`}
    <${Keep} a=${a} draft=${draft} query=${query} setDraft=${setDraft} patch=${patch} />
  <//>`;
}

// Who says who may ask for these options, and with which URL.
function Who({ a, query, picture, base }) {
  const saved = Object.entries(a.templates).find(([, q]) => q === query)?.[0];
  const by = saved && unsigned(`t=${saved}`, a).free ? `t=${saved}` : query;
  const { free, width } = unsigned(by, a);
  if (!free) {
    return html`<p>Only a signed URL may ask for this${a.access === 'open' && a.transforms === 'templates' && ', or a template that is made of it'}.${' '}
      <a href=${link(['aliases', a.name, 'signing'], { picture, query })}>Make a signed URL</a></p>`;
  }
  return html`<div><p class="muted">Everybody may ask for this${width && `; without a signature the width is rounded up to ${width}`}:</p>
    ${base && picture && html`<${Code} text=${base + urlPath(a.name, picture, by)} />`}</div>`;
}

// Keep stores the options of the bench as a template.
function Keep({ a, draft, query, setDraft, patch }) {
  const exists = Object.hasOwn(a.templates, draft.name);
  const fields = [{ name: 'name', label: 'Name of the template', placeholder: 'thumb' }];
  const save = async () => {
    try {
      const { templates } = await patch({ templates: { [draft.name]: query } });
      setDraft({ ...draft, query: templates[draft.name] }); // as it is stored
    } catch (err) { // the problems of the one template that this form knows
      err.errors = err.errors?.map((e) => (e.field.startsWith('templates') ? { ...e, field: 'name' } : e));
      throw err;
    }
    toast(`The template ${draft.name} is saved`);
  };
  return html`<${Form} key=${draft.turn} fields=${fields} initial=${{ name: draft.name }} role="alias" kind="" submit=${exists ? `Replace ${draft.name}` : 'Save as a template'}
    onSubmit=${save} onChange=${(v) => setDraft({ ...draft, name: v.name })} />`;
}
