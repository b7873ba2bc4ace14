// Pure functions on the options of a URL: a query like w=240&h=240&fit=cover.

// synonyms are the other names of an option, as in the hosted product.
const synonyms = {
  w: ['width', 'wid'], h: ['height', 'hei'], f: ['fmt'], q: ['quality'], t: ['template'], bg: ['bgc'], gray: ['grey'], sharpen: ['sharp'], flip: ['flop'],
};

// free are the options that every alias but one that is off or signed answers without a
// signature; others are those that need one, or an alias that is open.
const free = ['t', 'w'];
const others = ['h', 'fit', 'gravity', 'crop', 'r', 'flip', 'bg', 'q', 'f', 'dpr', 'blur', 'sharpen', 'gray', 'strip', 'wm', 'anim', 'lqip', 'info'];

// names are all names of options, and the option of each.
export const names = new Map([...free, ...others].flatMap((n) => [n, ...(synonyms[n] ?? [])].map((s) => [s, n])));

// encode makes the options of a URL of a text that a person has typed or pasted.
export const encode = (text) => text.trim().replace(/^[?&]+|&+$/g, '').replace(/[^!-~]+|["#<>\\^`{|}]/g, encodeURIComponent);

const pairs = (query) => query.split('&').filter(Boolean).map((pair) => {
  const [name, value] = pair.split(/=(.*)/s);
  return { name, value: value ?? '' };
});

const decode = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

// option is the value of an option in a query, decoded; '' if it is not there.
export const option = (query, name) => decode(pairs(query).find((p) => names.get(p.name) === name)?.value ?? '');

// withOption sets an option of a query, in its place if it is there; '' removes it.
export function withOption(query, name, value) {
  const list = pairs(query);
  const at = list.findIndex((p) => names.get(p.name) === name);
  const rest = list.filter((p) => names.get(p.name) !== name);
  if (value !== '') rest.splice(at < 0 ? rest.length : at, 0, { name, value: encode(value).replace(/&/g, '%26') });
  return rest.map((p) => `${p.name}=${p.value}`).join('&');
}

// unsigned says what a request with these options and without a signature gets from an
// alias: {free: whether it is answered, width: to which w is rounded up, if it is}.
export function unsigned(query, { transforms, access, widths }) {
  const asked = pairs(query).flatMap((p) => names.get(p.name) ?? []);
  if (access === 'signed') return { free: false };
  if (transforms === 'open' || transforms === 'off' || asked.length === 0) return { free: true };
  if (transforms === 'signed' || asked.some((n) => !free.includes(n))) return { free: false };
  const w = Number(option(query, 'w'));
  if (!w) return { free: true };
  const width = widths.find((n) => n >= w);
  return width === undefined ? { free: false } : width === w ? { free: true } : { free: true, width };
}

// urlPath is the path of the URL of a picture: key is the path after the alias, decoded.
export const urlPath = (name, key, query) => `/${name}/${key.split('/').map(encodeURIComponent).join('/')}${query ? `?${query}` : ''}`;
