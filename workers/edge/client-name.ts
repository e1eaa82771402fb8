/** Who a client says that it is (docs/protocol.md). From a stranger: cut to size, shown in receipts, never trusted. */
export type ClientName = { sdk: string; instance: string; name: string };

export const MAX_CLIENT_TEXT = 2_048;
/** In characters. */
const MAX_NAME = 100;
const MAX_TOKEN = 128;

/** `<sdk>/<version>;instance=<uuid>;name=<app>`, the name percent-encoded. */
export function clientName(text: string): ClientName {
  const [sdk = "", ...parameters] = text.slice(0, MAX_CLIENT_TEXT).split(";");
  return {
    sdk: tokenOf(sdk) || "unknown",
    instance: tokenOf(parameter(parameters, "instance=")),
    name: nameOf(parameter(parameters, "name=")),
  };
}

const parameter = (parameters: string[], name: string): string =>
  parameters.find((text) => text.startsWith(name))?.slice(name.length) ?? "";

const tokenOf = (text: string): string => text.replace(/[^\w./@:+ -]/g, "").slice(0, MAX_TOKEN);

/** In any script, without what is not seen or garbles what stands beside it: controls, formats, half characters. */
function nameOf(text: string): string {
  let name = text;
  try {
    name = decodeURIComponent(text);
  } catch {
    // It was not encoded: then it stands for itself.
  }
  return [...name.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, "")].slice(0, MAX_NAME).join("");
}
