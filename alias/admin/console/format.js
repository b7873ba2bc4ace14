// Pure functions: texts of numbers, times and addresses.

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

// bytes formats a number of bytes with three digits.
export function bytes(n) {
  let i = 0;
  for (; n >= (i ? 1023.5 : 1024) && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(n >= 9.995 ? 1 : 2)} ${units[i]}`;
}

// count formats a number in at most five characters: 950, 1.2k, 48.2k, 3.1M.
export function count(n) {
  for (const [size, unit] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (n >= size * 0.9995) return (n / size >= 99.95 ? Math.round(n / size) : Math.round(n / size * 10) / 10) + unit;
  }
  return String(n);
}

// number formats a whole number with commas: 10,000.
export const number = (n) => n.toLocaleString('en');

// plural is a number with its noun: 1 picture, 2 pictures.
export const plural = (n, noun, many = `${noun}s`) => `${number(n)} ${n === 1 ? noun : many}`;

// percent formats a part of 1; null is a dash.
export const percent = (x) => (x == null ? '–' : x > 0.99 && x < 1 ? '>99 %' : `${Math.round(x * 100)} %`);

const steps = [[31536000, 'y'], [2592000, 'mo'], [86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

// span formats a number of seconds by its largest unit.
export function span(seconds) {
  for (const [size, unit] of steps) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return '0 s';
}

// ago formats a time relative to now, both in milliseconds.
export function ago(at, now) {
  const seconds = Math.round((now - at) / 1000);
  if (Math.abs(seconds) < 5) return 'now';
  return seconds < 0 ? `in ${span(-seconds)}` : `${span(seconds)} ago`;
}

// elapsed formats the time of a step, in milliseconds: 0.4 s, 12 s, 2 min 5 s.
export function elapsed(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
}

// exact formats a time as RFC 3339 in UTC, without fractions.
export const exact = (at) => new Date(at).toISOString().replace(/\.\d+Z/, 'Z');

// spared is the number of requests that S3 did not get.
export const spared = (p) => p.saved.hit.requests + p.saved.collapsed.requests;

// served is the number of requests that one point of usage stands for.
export const served = (p) => p.spent.requests + spared(p);

// hitRatio is the part of the requests that S3 was spared, null without requests.
export const hitRatio = (p) => (served(p) ? spared(p) / served(p) : null);

// line makes the points of a polyline of width w and height h for values from 0 to their
// largest. A null has no point; a point alone stands twice, so that it is drawn as a dot.
export function line(values, w, h, most = Math.max(...values.map((v) => v ?? 0), 0)) {
  const step = values.length > 1 ? w / (values.length - 1) : 0;
  const points = values.flatMap((v, i) => (v == null ? [] : `${round(i * step)},${round(most ? h - (v / most) * h : h)}`));
  return (points.length === 1 ? [points[0], points[0]] : points).join(' ');
}

const round = (x) => Math.round(x * 10) / 10;

export const [hour, day] = [3600000, 86400000];

// slots fills a series of points {at, …} so that it has one value for each of the last n
// hours, or other slots of size ms: read(point, time), where point is undefined for a slot
// without one.
export function slots(series, n, now, size, read) {
  const known = new Map(series.map((p) => [Math.floor(Date.parse(p.at) / size), p]));
  const last = Math.floor(now / size);
  return Array.from({ length: n }, (_, i) => read(known.get(last - n + 1 + i), (last - n + 1 + i) * size));
}

// total adds the points of a series: {requests, spared, bytes, sparedBytes}.
export function total(series) {
  const all = { requests: 0, spared: 0, bytes: 0, sparedBytes: 0 };
  for (const p of series) {
    all.requests += served(p);
    all.spared += spared(p);
    all.bytes += p.spent.bytes;
    all.sparedBytes += p.saved.hit.bytes + p.saved.collapsed.bytes;
  }
  return all;
}

// nest makes objects of names with dots: {'probe.inside': 'a'} is {probe: {inside: 'a'}}.
export function nest(values) {
  const all = {};
  for (const [name, value] of Object.entries(values)) {
    const parts = name.split('.');
    let at = all;
    for (const p of parts.slice(0, -1)) at = at[p] ??= {};
    at[parts.at(-1)] = value;
  }
  return all;
}

// location is what an alias covers, as in the console of AWS.
export const location = (a) => `s3://${a.bucket}/${a.prefix}`;

// route splits the fragment of the address: #/aliases/shop?tab=1 is
// {path: ['aliases', 'shop'], query: {tab: '1'}}.
export function route(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  return { path: path.split('/').filter(Boolean).map(decode), query: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// link is the reverse of route: link(['aliases', 'shop'], {tab: 1}).
export function link(path, query = {}) {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v != null && v !== ''));
  return `#/${path.map(encodeURIComponent).join('/')}${q.size ? `?${q}` : ''}`;
}

// find returns the first of routes whose pattern fits path, with the values of its
// parameters: pattern 'aliases/:name' fits ['aliases', 'shop'].
export function find(routes, path) {
  for (const r of routes) {
    const parts = r.pattern.split('/').filter(Boolean);
    if (parts.length !== path.length || !parts.every((p, i) => p[0] === ':' || p === path[i])) continue;
    return { ...r, params: Object.fromEntries(parts.flatMap((p, i) => (p[0] === ':' ? [[p.slice(1), path[i]]] : []))) };
  }
  return null;
}
