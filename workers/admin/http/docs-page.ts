/** The OpenAPI document as a page to read: rendered here, without a script, a font or anything from elsewhere. */
import { html, raw } from "hono/html";
import type { describe } from "./openapi.ts";

type Document = ReturnType<typeof describe>;
type Schema = { [keyword: string]: unknown };
type Parameter = { name: string; in: string; required?: boolean; description?: string; schema?: Schema };
type Content = { schema?: Schema; example?: unknown };
type Answer = { description: string; content?: Record<string, Content> };
type Operation = {
  operationId: string;
  summary?: string;
  tags?: string[];
  parameters?: (Parameter | { $ref: string })[];
  requestBody?: { description?: string; content: Record<string, Content> };
  responses: Record<string, Answer>;
};

/** Nothing may run or be fetched; the one style sheet is in the page. */
export const DOCS_HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
nav ul { columns: 18rem; list-style: none; padding: 0; }
code, pre { font: 14px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { border: 1px solid #8886; overflow: auto; padding: .5rem; white-space: pre-wrap; }
article { border-top: 1px solid #8886; padding: 1rem 0; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #8883; padding: .25rem .5rem .25rem 0; text-align: left; vertical-align: top; }`;

export function docsPage(document: Document) {
  const components = (document.components ?? {}) as Record<string, Record<string, Schema>>;
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item as Record<string, Operation>).map(([method, one]) => ({ method, path, ...one })),
  );
  const tags = [...new Set(operations.map(({ tags = [] }) => tags[0] ?? ""))];
  const inTag = (tag: string) => operations.filter(({ tags = [] }) => tags[0] === tag);
  const base = document.servers?.[0]?.url ?? "";
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${document.info.title} API</title>
<style>${raw(STYLE)}</style></head>
<body>
<h1>${document.info.title} API</h1>
<p>${document.info.description}</p>
<p>Send an API token: <code>Authorization: Bearer bnt_api_…</code>. For tools: <a href="${base}/openapi.json">openapi.json</a>.</p>
<nav>${tags.map(
    (tag) =>
      html`<h2>${tag}</h2><ul>${inTag(tag).map(
        (one) => html`<li><a href="#${one.operationId}">${one.summary}</a></li>`,
      )}</ul>`,
  )}</nav>
<main>${operations.map((one) => article(one, base, components))}</main>
<h2>Shapes</h2>
${Object.entries(components.schemas ?? {}).map(
  ([name, schema]) => html`<article id="shape-${name}"><h3>${name}</h3>${shape(schema)}</article>`,
)}
</body></html>`;
}

type Components = Record<string, Record<string, Schema>>;

function article(one: Operation & { method: string; path: string }, base: string, components: Components) {
  const parameters = (one.parameters ?? []).map((given) =>
    "$ref" in given ? (components.parameters?.[given.$ref.split("/").at(-1) ?? ""] as Parameter) : given,
  );
  const [type, content] = Object.entries(one.requestBody?.content ?? {})[0] ?? [];
  return html`<article id="${one.operationId}">
<h3>${one.summary}</h3>
<p><code>${one.method.toUpperCase()} ${base}${one.path}</code></p>
<table>${parameters.map(
    ({ name, in: place, required, description, schema }) => html`<tr><td><code>${name}</code></td>
<td>${place}${required ? ", required" : ""}</td><td>${description} ${schema && html`<code>${brief(schema)}</code>`}</td></tr>`,
  )}</table>
${
  content === undefined
    ? ""
    : html`<h4>Body, ${type}</h4><p>${one.requestBody?.description}</p>${shape(content.schema ?? {})}
${content.example === undefined ? "" : html`<p>For example:</p><pre>${text(content.example)}</pre>`}`
}
<h4>Answers</h4>
<table>${Object.entries(one.responses).map(
    ([status, { description, content: sent }]) => html`<tr><td>${status}</td><td>${description}</td>
<td>${status < "4" && sent !== undefined ? shape(Object.values(sent)[0]?.schema ?? {}) : ""}</td></tr>`,
  )}</table>
</article>`;
}

/** A shape with a name is described once, at the end. */
function shape(schema: Schema) {
  const name = nameIn(schema);
  if (name !== null) return html`<p><a href="#shape-${name}">${name}</a></p>`;
  return html`<pre>${text(schema)}</pre>`;
}

const nameIn = ({ $ref }: Schema) => (typeof $ref === "string" ? ($ref.split("/").at(-1) ?? "") : null);

function brief({ type, enum: values, minimum, maximum, default: byDefault }: Schema): string {
  const range = minimum === undefined ? "" : ` ${String(minimum)}…${String(maximum ?? "")}`;
  const usual = byDefault === undefined ? "" : `, ${String(byDefault)} by default`;
  return `${Array.isArray(values) ? values.join(" | ") : String(type ?? "")}${range}${usual}`;
}

const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
