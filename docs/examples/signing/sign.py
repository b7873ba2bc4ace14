"""Signs URLs of an ixmage server. Needs Python 3.7 and nothing else."""

import base64
import hashlib
import hmac
from urllib.parse import quote, unquote_to_bytes

# The parameters that a signature covers. A program that writes only these into its URLs
# needs no list: it signs all of them.
SIGNED = frozenset(
    "anim bg bgc blur crop dpr exp f fit flip flop fmt gravity gray grey h hei height info kid lqip q quality r "
    "sharp sharpen strip t template w wid width wm".split()
)


def sign(target, kid, secret, exp=None):
    """Return target, like /shop/a.jpg?w=400, with exp, kid and sig.

    The path is percent-encoded, as it will be sent. kid and secret are a signing key as
    the API shows it once. exp is in seconds since 1970; None never ends.
    """
    path, _, query = target.partition("?")
    pairs = query.split("&") if query else []
    if exp is not None:
        pairs.append(f"exp={exp}")
    pairs.append(f"kid={kid}")

    canonical = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name in SIGNED:
            canonical.append(name + "=" + quote(unquote_to_bytes(value), safe=""))
    message = "\n".join(["ixmage-v1", path, "&".join(sorted(canonical))])

    key = base64.urlsafe_b64decode(secret + "=")
    mac = hmac.new(key, message.encode("ascii"), hashlib.sha256).digest()
    sig = base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")
    return f"{path}?{'&'.join(pairs)}&sig={sig}"
