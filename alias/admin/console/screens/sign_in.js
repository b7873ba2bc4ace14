import { html, useRef, useState } from '../preact.js';
import { call } from '../api.js';
import { ErrorBox, Field } from '../ui.js';

// SignIn asks for a token. ended: the session ended while the console was open.
export function SignIn({ ended, onSignIn }) {
  const [token, setToken] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef();
  const submit = async (e) => {
    e.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      const { data } = await call('POST', '/session', { body: { token } });
      setToken('');
      onSignIn(data?.roles ? data : (await call('GET', '/session')).data);
    } catch (err) {
      setError(err);
      form.current?.querySelector('input')?.focus();
    }
    setBusy(false);
  };
  const wrong = error?.status === 401;
  // Of a missing or wrong token the API names the Authorization header, which people do not see.
  const reason = wrong && (/Authorization/.test(error.message) ? 'This token is wrong, or was revoked.' : error.message);
  const problems = wrong ? [{ field: 'token', detail: reason }] : (error?.errors ?? []);
  return html`<main class="alone"><form ref=${form} class="card sign-in" onSubmit=${submit} autocomplete="off">
    <h1><img src="/console/icon.svg" alt="" width="28" height="28" /> ixmage</h1>
    ${ended && html`<p class="box" role="status">Your session has ended. Sign in again to continue; your input is kept.</p>`}
    ${!isSecureContext && html`<p class="box warn" role="status">Over plain http the browser does not tell the server which page calls it, so the server refuses the console.
      Open it over https, or through a tunnel as http://localhost.</p>`}
    ${error && !problems.length && html`<${ErrorBox} error=${error} />`}
    <${Field} field=${{ name: 'token', label: 'Token', type: 'password', autocomplete: 'off',
      hint: html`A token that you were given, or the one in the file <code>admin-token</code> of the server's data folder.` }}
      value=${token} set=${setToken} problems=${problems} />
    <button class="button primary" aria-busy=${busy || undefined}>Sign in</button>
  </form></main>`;
}
