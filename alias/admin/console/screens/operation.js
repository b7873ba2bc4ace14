// One operation, live.
import { html } from '../preact.js';
import { OperationView } from '../operation_view.js';

export default function Operation({ params: { id } }) {
  return html`<${OperationView} key=${id} id=${id} />`;
}
