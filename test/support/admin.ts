/** The management plane over HTTP, as its users reach it. */
import { exports } from "cloudflare:workers";

type Answer = { status: number; headers: Headers; body: Body };
// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
type Body = any;

export type Api = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;

/** `body` goes out as it is where it is text or bytes. */
export const as =
  (token: string | null): Api =>
  async (method, path, body, headers = {}) => {
    const response = await exports.default.fetch(
      new Request(`https://bunting.test/api/v1${path}`, {
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
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === "" ? null : JSON.parse(text) };
  };

export const bootstrap = as("bootstrap");

export async function newToken(fields: object = {}): Promise<Api> {
  const { body } = await bootstrap("POST", "/tokens", { name: "test", role: "admin", ...fields });
  return as(body.token);
}

export const BOOLEAN = [
  { key: "on", value: true },
  { key: "off", value: false },
];

let projects = 0;

/** A project with environments `production` and `development`, of a test's own. */
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
