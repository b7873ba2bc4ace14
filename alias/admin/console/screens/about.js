// The server, the session and the API.
import { html } from '../preact.js';
import { get, url } from '../api.js';
import { plural } from '../format.js';
import { Badge, Card, Code, Facts, Loaded, Page, Time, useLoad, useSession } from '../ui.js';

export default function About() {
  const session = useSession();
  const server = useLoad((signal) => get('/server', {}, signal), []);
  return html`<${Page} title="About this server">
    <${Loaded} of=${server} what="the server">${(s) => html`
      ${s.warnings.length > 0 && html`<div class="box warn"><p><strong>Warnings of the start</strong></p><ul>${s.warnings.map((w) => html`<li>${w}</li>`)}</ul></div>`}
      <div class="columns"><${Card} title="Server"><${Facts} of=${[
        ['Version', s.version], ['Started', html`<${Time} at=${s.started_at} />`], ['Public URL', html`<a href=${s.public_url} rel="noreferrer">${s.public_url}</a>`],
        ['Node', s.node], s.registry && ['Registry', html`<a href="#/nodes">shared with other nodes</a>, revision ${s.registry.revision}${s.registry.stale && html` <${Badge} kind="warn">stale<//>`}`],
        ['TLS of the admin listener', s.admin_tls ? 'yes' : 'no'], ['Provisioning', s.provisioning ? 'on' : 'off: start the server with --provision'],
        s.transforms && ['Transforms', s.transforms.on ? `on: ${plural(s.transforms.workers, 'worker')}, libvips ${s.transforms.libvips}` : s.transforms.detail],
      ]} /><//>
      <${Card} title="Your session"><${Facts} of=${[
        ['Token', session.name], ['Roles', session.roles.join(', ')], ['Buckets', session.buckets?.length ? session.buckets.join(', ') : 'all'],
        ['Token expires', html`<${Time} at=${session.expires_at} none="never; the token has no expiry" />`],
      ]} /><//></div>
      <${Card} title="The API">
        <p>Every action of this console is a call of the API. <a href=${url('/openapi.json')} target="_blank" rel="noreferrer">openapi.json</a> describes every call.${' '}
          <code>/metrics</code> is for Prometheus, unless it has a listener of its own.</p>
        <p>With curl:</p><${Code} text=${`curl -H "Authorization: Bearer $IXMAGE_ADMIN_TOKEN" ${location.origin}/api/v1/aliases`} />
        <p>With the command line:</p><${Code} text=${`export IXMAGE_ADMIN_URL=${location.origin}\nexport IXMAGE_ADMIN_TOKEN_FILE=~/ixmage-token\nixmage alias ls`} /><//>`}<//>
  <//>`;
}
