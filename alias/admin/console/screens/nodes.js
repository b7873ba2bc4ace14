// The nodes that share the registry.
import { html, useEffect, useState } from '../preact.js';
import { call, get, path } from '../api.js';
import { Action, Badge, Confirm, Grid, Loaded, Page, State, Time, toast, useLoad, useSession } from '../ui.js';

const every = 5000; // ms

// clock says how far a clock is off, from a duration of Go: the values below a second need none.
export const clock = (offset) => (/^-?\d+(\.\d+)?(ns|µs|ms)$|^0s$/.test(offset) ? 'in time' : offset.startsWith('-') ? `${offset.slice(1)} slow` : `${offset} fast`);

const head = ['Node', 'State', 'Version', 'Started', 'Seen', 'Revision', 'Lag', 'Clock', 'Does alone', html`<span class="visually-hidden">Actions</span>`];

export default function Nodes() {
  const session = useSession();
  const nodes = useLoad((signal) => get('/nodes', {}, signal), []);
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || get('/nodes').then(nodes.set, () => {}), every);
    return () => clearInterval(timer);
  }, []);
  const remove = async () => {
    await call('DELETE', path`/nodes/${asked.name}`);
    toast(`The node ${asked.name} is removed`);
    nodes.reload();
  };
  const row = (n) => [
    html`<strong>${n.name}</strong>${n.self && ' (this one)'}`, html`<${State} of=${n.state} />`, n.version, html`<${Time} at=${n.started_at} />`, html`<${Time} at=${n.seen_at} />`,
    n.revision, n.lag ? html`<${Badge} kind="warn">${n.lag}<//>` : '0', clock(n.clock_offset), n.leases.length ? n.leases.join(', ') : '–',
    n.state === 'silent' && html`<${Action} role="admin" kind="small danger" disabled=${session.buckets?.length > 0} aria-label=${`Remove ${n.name}`} onClick=${() => setAsked(n)}>Remove<//>`,
  ];
  return html`<${Page} title="Nodes" lead="Servers that share the registry. Each has a cache of its own." actions=${html`<${Action} onClick=${nodes.reload}>Reload<//>`}>
    <${Loaded} of=${nodes} what="the nodes">${(a) => html`
      ${a.stale && html`<p class="muted">The database cannot be used: this is the list of its last answer${a.since && html`, <${Time} at=${a.since} />`}.</p>`}
      <${Grid} label="Nodes" head=${head} rows=${a.nodes.map(row)} />`}<//>
    ${asked && html`<${Confirm} title=${`Remove the node ${asked.name}?`} word=${asked.name} action="Remove" onConfirm=${remove} onClose=${() => setAsked(null)}>
      <p>Rotations no longer wait until ${asked.name} signs with the current keys. Remove it only if it is gone for good: when it comes back, it may sign with a key that was deleted, until it has read the registry.</p><//>`}
  <//>`;
}
