<?php
// Signs URLs of an ixmage server. Needs PHP 7.1 and nothing else.

// The parameters that a signature covers. A program that writes only these into its URLs
// needs no list: it signs all of them.
const IXMAGE_SIGNED = [
    'anim', 'bg', 'bgc', 'blur', 'crop', 'dpr', 'exp', 'f', 'fit', 'flip', 'flop', 'fmt', 'gravity', 'gray', 'grey',
    'h', 'hei', 'height', 'info', 'kid', 'lqip', 'q', 'quality', 'r', 'sharp', 'sharpen', 'strip',
    't', 'template', 'w', 'wid', 'width', 'wm',
];

/**
 * Returns $target, like /shop/a.jpg?w=400, with exp, kid and sig. The path is
 * percent-encoded, as it will be sent. $kid and $secret are a signing key as the API shows
 * it once. $exp is in seconds since 1970; null never ends.
 */
function ixmage_sign(string $target, string $kid, string $secret, ?int $exp = null): string
{
    [$path, $query] = explode('?', $target, 2) + [1 => ''];
    $pairs = $query === '' ? [] : explode('&', $query);
    if ($exp !== null) {
        $pairs[] = "exp=$exp";
    }
    $pairs[] = "kid=$kid";

    $canonical = [];
    foreach ($pairs as $pair) {
        [$name, $value] = explode('=', $pair, 2) + [1 => ''];
        if (in_array($name, IXMAGE_SIGNED, true)) {
            $canonical[] = $name . '=' . rawurlencode(rawurldecode($value));
        }
    }
    sort($canonical, SORT_STRING);
    $message = "ixmage-v1\n$path\n" . implode('&', $canonical);

    $key = base64_decode(strtr($secret, '-_', '+/'));
    $mac = hash_hmac('sha256', $message, $key, true);
    $sig = rtrim(strtr(base64_encode($mac), '+/', '-_'), '=');
    return $path . '?' . implode('&', $pairs) . '&sig=' . $sig;
}
