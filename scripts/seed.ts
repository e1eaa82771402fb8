/** The demo: one project, two environments, five flags of different kinds, a segment, two policies. Made by the API like anything else. */

export type Development = {
  url: string;
  apiToken: string;
  project: string;
  environments: Record<string, { serverKey: string; clientKey: string }>;
};

const PROJECT = "demo";
const ENVIRONMENTS = { production: "Production", development: "Development" };

const flags = [
  {
    key: "payments-enabled",
    name: "Payments enabled",
    description: "A kill switch: on for everyone until the worst night of the year.",
    type: "boolean",
    tags: ["payment", "kill-switch"],
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
  },
  {
    key: "new-checkout",
    name: "New checkout",
    description: "A percentage rollout: half of all users.",
    type: "boolean",
    tags: ["checkout"],
    temporary: true,
    clientSide: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
  },
  {
    key: "beta-dashboard",
    name: "Beta dashboard",
    description: "A targeted release: two testers, beta users and the enterprise plan.",
    type: "boolean",
    tags: ["dashboard"],
    temporary: true,
    clientSide: true,
    variations: [
      { key: "on", value: true },
      { key: "off", value: false },
    ],
  },
  {
    key: "pricing-page",
    name: "Pricing page",
    description: "An A/B/C experiment on the pricing page.",
    type: "string",
    tags: ["experiment", "pricing"],
    temporary: true,
    clientSide: true,
    variations: [
      { key: "control", value: "table" },
      { key: "cards", value: "cards" },
      { key: "slider", value: "slider" },
    ],
  },
  {
    key: "search-settings",
    name: "Search settings",
    description: "A JSON configuration read by the search service.",
    type: "json",
    tags: ["search"],
    variations: [
      { key: "standard", value: { engine: "v1", pageSize: 20, synonyms: false } },
      { key: "rich", value: { engine: "v2", pageSize: 50, synonyms: true } },
    ],
  },
];

const segment = {
  key: "beta-users",
  name: "Beta users",
  description: "Who asked to see things early.",
  included: ["ada", "grace"],
  rules: [{ conditions: [{ attribute: "email", op: "endsWith", values: ["@example.com"] }] }],
};

const targeting: Record<string, unknown> = {
  "payments-enabled": { on: true },
  "new-checkout": { on: true, fallthrough: { split: { weights: { on: 50_000, off: 50_000 } } } },
  "beta-dashboard": {
    on: true,
    targets: [{ variation: "on", values: ["qa-1", "qa-2"] }],
    rules: [
      { conditions: [{ segment: ["beta-users"] }], serve: { variation: "on" } },
      { conditions: [{ attribute: "plan", op: "in", values: ["enterprise"] }], serve: { variation: "on" } },
    ],
    fallthrough: { variation: "off" },
  },
  "pricing-page": {
    on: true,
    trackExposures: true,
    fallthrough: { split: { weights: { control: 33_334, cards: 33_333, slider: 33_333 } } },
  },
  "search-settings": {
    on: true,
    rules: [{ conditions: [{ attribute: "plan", op: "in", values: ["enterprise"] }], serve: { variation: "rich" } }],
    fallthrough: { variation: "standard" },
  },
};

/** The demo's own token is an administrator's, who may go without approvals, so that it can be tried alone. An editor's may not. */
const policies = [
  {
    key: "payment",
    name: "Payments",
    description: "Whatever touches payments is looked at by somebody else first.",
    environments: ["production"],
    tags: ["payment"],
    approvers: { role: "approver" },
    approvals: 1,
    bypass: "admin",
  },
  {
    key: "most-users",
    name: "Most users",
    description: "What changes for more than half of all users at once takes two to agree.",
    environments: ["production"],
    share: 50_001,
    approvers: { role: "approver" },
    approvals: 2,
    bypass: "admin",
  },
];

/** The first administrator's token, which the bootstrap secret makes once. Null: another has been made before, or there is no secret. */
export async function firstToken(url: string, bootstrapToken: string): Promise<string | null> {
  const response = await post(url, bootstrapToken, "POST", "/tokens", { name: "npm start", role: "admin" });
  if (response.status === 403 || response.status === 401) return null;
  if (!response.ok) throw new Error(`The first token: ${response.status}: ${await response.text()}`);
  return ((await response.json()) as { token: string }).token;
}

export async function seedDemo(url: string, token: string): Promise<Development> {
  const api = <T>(method: string, path: string, body: unknown) => call<T>(url, token, method, path, body);

  await api("POST", "/projects", { key: PROJECT, name: "Demo" });
  const environments: Development["environments"] = {};
  for (const [key, name] of Object.entries(ENVIRONMENTS)) {
    await api("POST", `/projects/${PROJECT}/environments`, { key, name });
  }
  for (const flag of flags) await api("POST", `/projects/${PROJECT}/flags`, flag);
  for (const environment of Object.keys(ENVIRONMENTS)) {
    const base = `/projects/${PROJECT}/environments/${environment}`;
    await api("POST", `${base}/segments`, segment);
    for (const [flag, body] of Object.entries(targeting)) {
      await api("PATCH", `/projects/${PROJECT}/flags/${flag}/environments/${environment}`, body);
    }
    const { key: serverKey } = await api<{ key: string }>("POST", `${base}/keys`, { kind: "server", name: "demo" });
    const { key: clientKey } = await api<{ key: string }>("POST", `${base}/keys`, { kind: "client", name: "demo" });
    environments[environment] = { serverKey, clientKey };
  }
  for (const policy of policies) await api("POST", `/projects/${PROJECT}/policies`, policy);
  return { url, apiToken: token, project: PROJECT, environments };
}

/** A project that a seed cut short left behind is taken as it is: what is there already is not an error. */
async function call<T>(url: string, token: string, method: string, path: string, body: unknown): Promise<T> {
  const response = await post(url, token, method, path, body);
  if (!response.ok && response.status !== 409) {
    throw new Error(`Seeding: ${method} ${path} answered ${response.status}: ${await response.text()}`);
  }
  return (await response.json()) as T;
}

const post = (url: string, token: string, method: string, path: string, body: unknown): Promise<Response> =>
  fetch(`${url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
