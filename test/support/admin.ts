/** The management API over HTTP. Every answer is checked against the OpenAPI document. */
import { exports } from "cloudflare:workers";
import { Contract } from "./contract.ts";

type Answer = { status: number; headers: Headers; body: Body };
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
type Body = any;

export type Api = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;

const ORIGIN = "https://bunting.test/api/v1";
let contract: Promise<Contract> | undefined;

export const openContract = (): Promise<Contract> =>
  (contract ??= exports.default
    .fetch(new Request(`${ORIGIN}/openapi.json`))
    .then(async (response) => new Contract(await response.json())));

/** The API with this token. A `body` of text or bytes is sent unchanged, any other as JSON. */
export const as =
  (token: string | null): Api =>
  async (method, path, body, headers = {}) => {
    const response = await exports.default.fetch(
      new Request(`${ORIGIN}${path}`, {
        method,
        headers: {
          ...(token !== null && { authorization: `Bearer ${token}` }),
          ...(body !== undefined && { "content-type": "application/json" }),
          ...headers,
        },
        ...(body !== undefined && {
          body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
        }),
      }),
    );
    // Of lines of JSON, text() would warn that they are none.
    const text = new TextDecoder().decode(await response.arrayBuffer());
    const answer = { status: response.status, headers: response.headers };
    (await openContract()).check(method, path, { ...answer, text });
    const isJson = /[/+]json/.test(response.headers.get("content-type") ?? "");
    return { ...answer, body: text === "" ? null : isJson ? JSON.parse(text) : text };
  };

let first: Promise<string> | undefined;
/** The administrator whose token the bootstrap secret made: it does so once. */
export const root: Api = async (...request) => {
  first ??= as("bootstrap")("POST", "/tokens", { name: "root", role: "admin" }).then(({ body }) => body.token);
  return as(await first)(...request);
};

export async function newToken(fields: object = {}): Promise<Api> {
  const { body } = await root("POST", "/tokens", { name: "test", role: "admin", ...fields });
  return as(body.token);
}

export const BOOLEAN = [
  { key: "on", value: true },
  { key: "off", value: false },
];

let projects = 0;

/** A new project with environments `production` and `development`. */
export async function newProject(api: Api): Promise<string> {
  const key = `project-${++projects}`;
  await api("POST", "/projects", { key });
  for (const environment of ["production", "development"]) {
    await api("POST", `/projects/${key}/environments`, { key: environment });
  }
  return key;
}

export async function newFlag(api: Api, project: string, key: string, fields: object = {}): Promise<string> {
  await api("POST", `/projects/${project}/flags`, { key, type: "boolean", variations: BOOLEAN, ...fields });
  return `/projects/${project}/flags/${key}`;
}
