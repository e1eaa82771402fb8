/** Which origins a client key takes: as an administrator writes them down, and as browsers send them (RFC 6454, 6.2). */

/** What apps with a web view and extensions send. Their hosts are opaque, so that nothing about them is normalised but case. */
const APP_SCHEMES = ["capacitor", "ionic", "tauri", "chrome-extension", "moz-extension"];
const APP = new RegExp(`^(?:${APP_SCHEMES.join("|")})://[a-z0-9._-]+$`);
/** Stands for the one label that may differ, while the URL parser looks at the rest. */
const LABEL = "wildcard-label";

type Read = { origin: string } | { problem: string };

/**
 * The origin as a browser would send it: lower case, without the port that the scheme has by default, hosts in punycode.
 * `https://*.preview.example` stays a pattern for exactly one label. Else what is wrong and what to do.
 */
export function readOrigin(text: string): Read {
  const given = text.trim();
  if (given === "null")
    return {
      problem: "A browser sends `null` for files and sandboxed frames, which anybody can be: it cannot be allowed.",
    };
  if (given === "*") return { problem: "Leave the list empty to allow every origin." };
  const app = given.toLowerCase().replace(/\/$/, "");
  if (APP.test(app)) return { origin: app };
  const [scheme = ""] = /^[a-z][a-z0-9+.-]*(?=:\/\/)/i.exec(given) ?? [];
  if (scheme === "") return { problem: "Send a scheme and a host: https://app.example.com." };
  if (!/^https?$/i.test(scheme))
    return { problem: `No page is at ${scheme}://. Send one of https, http, ${APP_SCHEMES.join(", ")}.` };
  return readWebOrigin(given);
}

function readWebOrigin(given: string): Read {
  const isPattern = /^https?:\/\/\*\./i.test(given);
  const text = isPattern ? given.replace("*", LABEL) : given;
  if (text.includes("*"))
    return { problem: "A * stands for the first label of a host, and for one alone: https://*.preview.example." };
  if (!URL.canParse(text))
    return { problem: "This is no address: send a scheme and a host, as https://app.example.com." };
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") return { problem: "An origin has no user name and no password." };
  // `//` begins the host, so that a third slash begins a path.
  if (url.pathname !== "/" || /[?#]/.test(text))
    return { problem: `An origin has no path: send ${isPattern ? url.origin.replace(LABEL, "*") : url.origin}.` };
  if (!isPattern) return { origin: url.origin };
  const rest = url.hostname.slice(LABEL.length + 1);
  if (!url.hostname.startsWith(`${LABEL}.`) || !/^[^.]+\.[^.]/.test(rest) || /^[\d.]+$/.test(rest))
    return { problem: "A * needs a domain of at least two labels behind it: https://*.preview.example." };
  return { origin: url.origin.replace(LABEL, "*") };
}

/** `allowed` are what `readOrigin` answers; `origin` is a request's header. */
export function isAllowedOrigin(allowed: readonly string[], origin: string): boolean {
  if (allowed.includes(origin)) return true;
  const [, scheme, host = ""] = /^(https?:\/\/)[^./:]+\.(.+)$/.exec(origin) ?? [];
  return scheme !== undefined && allowed.includes(`${scheme}*.${host}`);
}
