/** Kept equal to package.json by a test: an entry point cannot read that file on every platform. */
export const VERSION = "0.1.0";

/** In characters (docs/protocol.md). */
const MAX_NAME = 100;

const SERVER_KEY = /^bnt_srv_[A-Za-z0-9._~-]+_[A-Za-z0-9._~-]+$/;

/** Says what is wrong with a server key and what to do about it, or null. The key itself is never repeated. */
export function validateServerKey(key: unknown): string | null {
  if (typeof key !== "string" || key === "") {
    return "serverKey is missing: pass the server key of an environment (it begins with bnt_srv_)";
  }
  if (key.startsWith("bnt_cli_")) {
    return "serverKey is a client key: client keys are for browsers and mobile apps; use the environment's server key (bnt_srv_…)";
  }
  if (key.startsWith("bnt_api_")) {
    return "serverKey is an API token: tokens are for the management API; use the environment's server key (bnt_srv_…)";
  }
  if (!SERVER_KEY.test(key)) {
    return "serverKey is malformed: it looks like bnt_srv_<environment>_<secret>; copy it again, without quotes or spaces";
  }
  return null;
}

/** The environment that a valid server key names, between its underscores. */
export const environmentOf = (serverKey: string): string => serverKey.split("_")[2]!;

/** The address without a trailing slash; throws a TypeError that says what is wrong. */
export function checkUrl(url: unknown): string {
  const remedy = "pass the address of your Bunting Worker, such as https://flags.example.com";
  if (typeof url !== "string" || url === "") throw new TypeError(`Bunting: url is missing: ${remedy}`);
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new TypeError(`Bunting: url "${url}" is not an address: ${remedy}`);
  }
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:") {
    throw new TypeError(`Bunting: url must begin with https:// or http://: ${remedy}`);
  }
  return url.replace(/\/+$/, "");
}

/** Characters and not their escapes are counted: half an escape could not be decoded. */
export const encodedName = (name: string): string =>
  encodeURIComponent([...String(name)].slice(0, MAX_NAME).join("").toWellFormed());

/** `X-Bunting-Client`: names the sender in receipts. A header takes ASCII only, so the name is percent-encoded UTF-8. */
export function clientHeader(sdk: string, instance: string, name: string | undefined): string {
  const header = `${sdk}/${VERSION};instance=${instance}`;
  return name === undefined || name === "" ? header : `${header};name=${encodedName(name)}`;
}
