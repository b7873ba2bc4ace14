import { html } from '../preact.js';
import { Page } from '../ui.js';

export default () => html`<${Page} title="credential"><//>`;
