// The screens of one alias.
import { html } from './preact.js';
import { link } from './format.js';

const tabs = [['Overview', []], ['Transforms', ['transforms']], ['Signed URLs', ['signing']]];

// AliasTabs leads from one screen of an alias to the others. current is the title of this one.
export const AliasTabs = ({ name, current }) => html`<nav class="tabs" aria-label=${`Alias ${name}`}><ul>${tabs.map(([title, rest]) => html`
  <li><a href=${link(['aliases', name, ...rest])} aria-current=${title === current ? 'page' : undefined}>${title}</a></li>`)}</ul></nav>`;
