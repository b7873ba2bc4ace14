// Signs URLs of an ixmage server. Needs Node.js and nothing else. Sign on your server: a key
// in a browser is everybody's key.

import { createHmac } from "node:crypto";

// The parameters that a signature covers. A program that writes only these into its URLs
// needs no list: it signs all of them.
const SIGNED = new Set(
  ("anim bg bgc blur crop dpr exp f fit flip flop fmt gravity gray grey h hei height info kid lqip q quality r " +
    "sharp sharpen strip t template w wid width wm").split(" "),
);

// sign returns target, like /shop/a.jpg?w=400, with exp, kid and sig. The path is
// percent-encoded, as it will be sent. kid and secret are a signing key as the API shows it
// once. exp is in seconds since 1970; without it the URL never ends.
export function sign(target, kid, secret, exp) {
  const [, path, query] = /^([^?]*)\??(.*)$/.exec(target);
  const pairs = query ? query.split("&") : [];
  if (exp != null) pairs.push(`exp=${exp}`);
  pairs.push(`kid=${kid}`);

  const canonical = pairs
    .map((pair) => /^([^=]*)=?(.*)$/.exec(pair))
    .filter(([, name]) => SIGNED.has(name))
    .map(([, name, value]) => `${name}=${encode(decodeURIComponent(value))}`)
    .sort();
  const message = ["ixmage-v1", path, canonical.join("&")].join("\n");

  const key = Buffer.from(secret, "base64url");
  const sig = createHmac("sha256", key).update(message).digest("base64url");
  return `${path}?${pairs.join("&")}&sig=${sig}`;
}

// encodeURIComponent leaves five characters that RFC 3986 reserves.
function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
}
