// The frame of the console: session, navigation and the screen that the address names.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from './preact.js';
import { call, get, onSignedOut, signedIn } from './api.js';
import { find, link, route } from './format.js';
import { allows, ErrorBox, Session, toast, Toasts } from './ui.js';
import { SignIn } from './screens/sign_in.js';

// routes are the screens: one file each, whose default export is a component that gets
// {params, query}. menu is the name in the navigation; of is the pattern whose entry stands
// for a screen without one. An entry is left out for a session that has not the role, or
// not all buckets, that the calls of its screen need, and with shared on a server that
// shares its registry with no other.
const routes = [
  { pattern: 'aliases', title: 'Aliases', menu: 'Aliases', load: () => import('./screens/aliases.js') },
  { pattern: 'register', title: 'Register an alias', of: 'aliases', load: () => import('./screens/register.js') },
  { pattern: 'aliases/:name', title: (p) => p.name, of: 'aliases', load: () => import('./screens/alias.js') },
  { pattern: 'aliases/:name/edit', title: (p) => `Change ${p.name}`, of: 'aliases', load: () => import('./screens/alias_edit.js') },
  { pattern: 'aliases/:name/transforms', title: (p) => `Transforms of ${p.name}`, of: 'aliases', load: () => import('./screens/transforms.js') },
  { pattern: 'aliases/:name/signing', title: (p) => `Signed URLs of ${p.name}`, of: 'aliases', load: () => import('./screens/signing.js') },
  { pattern: 'credentials', title: 'Credentials', menu: 'Credentials', load: () => import('./screens/credentials.js') },
  { pattern: 'credentials/:name', title: (p) => p.name, of: 'credentials', load: () => import('./screens/credential.js') },
  { pattern: 'provision', title: 'Provision an alias', menu: 'Provision', load: () => import('./screens/provision.js') },
  { pattern: 'operations', title: 'Operations', menu: 'Operations', load: () => import('./screens/operations.js') },
  { pattern: 'operations/:id', title: 'Operation', of: 'operations', load: () => import('./screens/operation.js') },
  { pattern: 'orphans', title: 'Orphans', menu: 'Orphans', allBuckets: true, load: () => import('./screens/orphans.js') },
  { pattern: 'audit', title: 'Audit', menu: 'Audit', load: () => import('./screens/audit.js') },
  { pattern: 'explain', title: 'Explain a URL', menu: 'Explain', load: () => import('./screens/explain.js') },
  { pattern: 'cache', title: 'Cache', menu: 'Cache', load: () => import('./screens/cache.js') },
  { pattern: 'nodes', title: 'Nodes', menu: 'Nodes', shared: true, load: () => import('./screens/nodes.js') },
  { pattern: 'tokens', title: 'Tokens', menu: 'Tokens', role: 'admin', load: () => import('./screens/tokens.js') },
  { pattern: 'about', title: 'About this server', menu: 'About', load: () => import('./screens/about.js') },
];

// start puts the console into an element of the page.
export function start(root) {
  setTheme(localStorage.getItem(themeKey));
  render(html`<${App} />`, root);
}

function App() {
  const [session, setSession] = useState(undefined); // undefined: not known yet
  const [ended, setEnded] = useState(false); // the session ended while the console was open
  const [error, setError] = useState(null);
  const ask = () => {
    setError(null);
    get('/session').then(setSession, (err) => (err.status === 401 ? setSession(null) : setError(err)));
  };
  useEffect(() => {
    onSignedOut(() => setEnded(true));
    ask();
  }, []);
  const signIn = (s) => {
    if (session && s.name !== session.name) location.reload(); // drops what another token has seen
    else signedIn();
    setSession(s);
    setEnded(false);
  };
  const signOut = async () => {
    try {
      await call('DELETE', '/session');
    } catch (err) {
      if (err.status !== 401) return toast(err.message, 'bad');
    }
    sessionStorage.clear();
    return location.replace('/'); // drops all that was read
  };
  if (error) return html`<main class="alone"><${ErrorBox} error=${error} retry=${ask} /></main>`;
  if (session === undefined) return html`<main class="alone"><p class="muted" role="status">Loading…</p></main>`;
  // The screen stays in the page while the session is renewed: what was typed is kept.
  return html`
    ${(!session || ended) && html`<${SignIn} ended=${ended} onSignIn=${signIn} />`}
    ${session && html`<div hidden=${ended}><${Session.Provider} value=${session}>
      <${Frame} key=${session.name} session=${session} signOut=${signOut} /><//></div>`}
    <${Toasts} />`;
}

function useHash() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = () => setHash(location.hash);
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, []);
  return hash;
}

const every = 15000; // ms

// useRegistry reads the state of the registry now and then; undefined if it is not shared.
function useRegistry() {
  const [registry, setRegistry] = useState();
  useEffect(() => {
    const read = () => document.hidden || get('/server').then((s) => setRegistry(s.registry), () => {});
    read();
    const timer = setInterval(read, every);
    return () => clearInterval(timer);
  }, []);
  return registry;
}

function Frame({ session, signOut }) {
  const at = route(useHash());
  const found = find(routes, at.path.length ? at.path : ['aliases']);
  const [open, setOpen] = useState(false); // the menu, on a narrow screen
  const place = at.path.join('/');
  const title = found ? (typeof found.title === 'function' ? found.title(found.params) : found.title) : 'Not found';
  useEffect(() => {
    document.title = `${title} – ixmage`;
    setOpen(false);
  }, [place]);
  const limited = session.buckets.length > 0;
  const registry = useRegistry();
  const may = (r) => allows(session, r.role ?? 'read') && !(r.allBuckets && limited) // what the API would answer
    && !(r.shared && !registry);
  const current = found && (found.menu ? found.pattern : found.of);
  return html`
    <a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); document.getElementById('main').focus(); }}>Skip to the content</a>
    <div class="frame">
      <header class="top">
        <a class="brand" href=${link(['aliases'])}><img src="/console/icon.svg" alt="" width="22" height="22" /> ixmage</a>
        <button type="button" class="button small menu" aria-expanded=${open ? 'true' : 'false'} aria-controls="menu" onClick=${() => setOpen(!open)}>Menu</button>
        <nav id="menu" class=${open ? 'open' : ''} aria-label="Main"><ul>${routes.filter((r) => r.menu && may(r)).map((r) => html`
          <li><a href=${`#/${r.pattern}`} aria-current=${current === r.pattern ? 'page' : undefined}>${r.menu}</a></li>`)}</ul>
          <div class="who"><p title=${`Roles: ${session.roles.join(', ')}`}>${session.name}<br /><span class="muted">${session.roles.join(', ')}${limited && html`<br />buckets ${session.buckets.join(', ')}`}</span></p>
            <${Theme} /><button type="button" class="button small" onClick=${signOut}>Sign out</button></div></nav>
      </header>
      <main id="main" tabindex="-1"><div role="status">${registry?.stale && html`<div class="box warn"><p><strong>The registry is stale</strong></p><p>${registry.detail}.</p></div>`}</div>
        ${found ? html`<${Screen} key=${place} route=${found} query=${at.query} />`
        : html`<h1>Not found</h1><p>There is no page at this address. <a href=${link(['aliases'])}>Go to the aliases</a>.</p>`}</main>
    </div>`;
}

let first = true; // the first screen does not take the focus

// Screen loads the module of a screen and shows it.
function Screen({ route: r, query }) {
  const [state, setState] = useState({});
  const ref = useRef();
  useEffect(() => {
    r.load().then((module) => setState({ show: module.default }), () => setState({
      error: { title: 'The screen cannot be loaded', message: 'The server does not answer, or has a new version: load the page again.' },
    }));
  }, []);
  useLayoutEffect(() => {
    if (!first) ref.current.closest('main').focus();
    first = false;
  }, []);
  return html`<div ref=${ref} class="screen">${state.error ? html`<${ErrorBox} error=${state.error} />`
    : state.show ? html`<${state.show} params=${r.params} query=${query} />` : html`<p class="muted" role="status">Loading…</p>`}</div>`;
}

const themeKey = 'ixmage-theme';

function setTheme(theme) {
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function Theme() {
  const [theme, set] = useState(localStorage.getItem(themeKey) || 'system');
  const change = (e) => {
    set(e.target.value);
    localStorage.setItem(themeKey, e.target.value);
    setTheme(e.target.value);
  };
  return html`<label class="theme">Theme <select value=${theme} onChange=${change}>${['system', 'light', 'dark'].map((t) => html`
    <option value=${t} selected=${t === theme}>${t}</option>`)}</select></label>`;
}
