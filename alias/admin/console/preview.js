// A picture as the server transforms it, beside the original.
import { html, useEffect, useRef, useState } from './preact.js';
import { path, pictureAnswer } from './api.js';
import { bytes, percent } from './format.js';
import { ErrorBox } from './ui.js';

const pause = 350; // ms without a change before the server is asked

// usePicture reads the picture of an alias with some options; a picture stays while the next
// one is read. skip reads none.
function usePicture({ name, key, query, accept, turn, skip }) {
  const [state, setState] = useState({});
  const first = useRef(true);
  useEffect(() => {
    if (skip || !key) return setState({});
    setState((s) => ({ ...s, loading: true }));
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const answer = await pictureAnswer(path`/aliases/${name}/picture`, { query: { key, query }, accept, signal: stop.signal });
        if (!stop.signal.aborted) setState({ answer });
      } catch (error) {
        if (!stop.signal.aborted) setState({ error });
      }
    }, first.current ? 0 : pause);
    first.current = false;
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [name, key, query, accept, turn, skip]);
  return state;
}

// Preview shows the original and the result of query; a change of turn makes it ask again. onProblems
// gets the errors of the options, [] if there are none; explain makes what stands in place of an
// error; idle says why there is no result, instead of it.
export function Preview({ name, picture, query, accept, turn, onProblems, explain, idle }) {
  const original = usePicture({ name, key: picture, query: '', accept: '*/*', turn });
  const result = usePicture({ name, key: picture, query, accept, turn, skip: !query || Boolean(idle) });
  const wrong = result.error?.errors?.length ? result.error.errors : [];
  useEffect(() => { if (!result.loading) onProblems(wrong); }, [result.error, result.loading]);
  const same = result.error && result.error.code === original.error?.code; // not a matter of the options
  return html`<div class="preview" aria-live="polite">
    <${Figure} title="Original" of=${original} alt=${`The original ${picture}`} explain=${explain} />
    ${idle || !query ? html`<p class="muted">${idle || 'Type options to see what the server makes of the original.'}</p>`
      : !same && html`<${Figure} title="Result" of=${result} alt=${`The result of ${query}`} than=${original.answer} wrong=${wrong.length > 0} explain=${explain} />`}</div>`;
}

function Figure({ title, of, alt, than, wrong, explain }) {
  const [size, setSize] = useState(null);
  const { answer, error, loading } = of;
  return html`<figure aria-busy=${loading ? 'true' : undefined}>
    <figcaption><strong>${title}</strong>${answer && html` <span class="muted">${facts(answer, size, than).join(' · ')}</span>`}</figcaption>
    ${error ? wrong ? html`<p class="bad-text">No picture: the options are not valid.</p>` : explain?.(error) ?? html`<${ErrorBox} error=${error} />`
      : answer ? html`<img class="picture" src=${answer.source} alt=${alt} onLoad=${(e) => setSize([e.target.naturalWidth, e.target.naturalHeight])} onError=${() => setSize(null)} />`
      : loading && html`<p class="muted">Loading…</p>`}</figure>`;
}

// facts are the size, weight, format and time of an answer, in words. than is the answer for
// the original.
export function facts(answer, size, than) {
  const list = [];
  if (size) list.push(`${size[0]} × ${size[1]}`);
  list.push(bytes(answer.bytes), answer.type.replace('image/', '').split(';')[0]);
  if (than && answer.bytes !== than.bytes) list.push(answer.bytes < than.bytes ? `${percent(1 - answer.bytes / than.bytes)} smaller` : `${percent(answer.bytes / than.bytes - 1)} larger`);
  if (than && answer.ms !== null) list.push(/;\s*hit/.test(answer.cache) ? `${Math.ceil(answer.ms)} ms, from the cache` : `${Math.ceil(answer.ms)} ms`);
  return list;
}
