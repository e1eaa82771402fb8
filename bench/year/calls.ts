/** What is asked of both servers, by name. */

/** Those of pages far into a list. */
export type Cursors = Record<"projects" | "flags" | "audit" | "stale", string>;

/** `begins`: no more of the answer than its first piece is read. */
export type Call = { name: string; method: string; path: string; body?: object; begins?: true };

const READ = { method: "GET" };
const FLAGS = "/projects/shop/flags";
const AUDIT = "/audit?limit=20";

/** The same for all rounds. */
export const reads = (cursors: Cursors): Call[] =>
  (
    [
      ["projects: first page", "/projects?limit=20"],
      ["projects: last full page", `/projects?limit=20&cursor=${cursors.projects}`],
      ["projects: q= found often", "/projects?limit=20&q=project"],
      ["projects: q= found nowhere", "/projects?limit=20&q=nowhere"],
      ["flags: first page", `${FLAGS}?limit=20`],
      ["flags: page 100", `${FLAGS}?limit=20&cursor=${cursors.flags}`],
      ["flags: by update", `${FLAGS}?limit=20&sort=-updatedAt`],
      ["flags: q= found often", `${FLAGS}?limit=20&q=checkout`],
      ["flags: q= a prefix", `${FLAGS}?limit=20&q=flag-1`],
      ["flags: q= found nowhere", `${FLAGS}?limit=20&q=nowhere`],
      ["flags: one tag", `${FLAGS}?limit=20&tag=team-4`],
      ["flags: two tags", `${FLAGS}?limit=20&tag=team-4&tag=area-4`],
      ["flags: owner", `${FLAGS}?limit=20&owner=owner-4`],
      ["flags: temporary and owner", `${FLAGS}?limit=20&temporary=true&owner=owner-4`],
      ["flags: archived", `${FLAGS}?limit=20&archived=true`],
      ["flag", `${FLAGS}/flag-7`],
      ["targeting", `${FLAGS}/flag-7/environments/production`],
      ["stale: first page", "/projects/shop/environments/production/stale?limit=20"],
      ["stale: last full page", `/projects/shop/environments/production/stale?limit=20&cursor=${cursors.stale}`],
      ["compare", "/projects/shop/compare?from=production&to=staging&limit=20"],
      ["audit: first page", AUDIT],
      ["audit: page 100", `${AUDIT}&cursor=${cursors.audit}`],
      ["audit: project", `${AUDIT}&project=shop`],
      ["audit: environment", `${AUDIT}&environment=staging`],
      ["audit: type", `${AUDIT}&type=segment`],
      ["audit: key", `${AUDIT}&key=flag-7`],
      ["audit: action", `${AUDIT}&action=flag.update`],
      ["audit: actor", `${AUDIT}&actor=actor-7`],
      ["audit: token", `${AUDIT}&token=tok_7`],
      ["audit: correlation_id", `${AUDIT}&correlation_id=${(777).toString(16).padStart(32, "0")}`],
      ["audit: project and environment", `${AUDIT}&project=shop&environment=staging`],
      ["audit: project and action", `${AUDIT}&project=shop&action=flag.update`],
      ["audit: project and actor", `${AUDIT}&project=shop&actor=actor-7`],
      ["audit: project, environment and key", `${AUDIT}&project=shop&environment=production&key=flag-7`],
      ["audit: actor and action", `${AUDIT}&actor=actor-7&action=flag.update`],
      ["audit: two that never meet", `${AUDIT}&environment=staging&action=flag.update`],
      ["audit: reason= found often", `${AUDIT}&reason=agreed`],
      ["audit: reason= found nowhere", `${AUDIT}&reason=nowhere`],
      ["audit: reason= nowhere in a project", `${AUDIT}&project=shop&reason=nowhere`],
    ] as const
  ).map(([name, path]) => ({ name, path, ...READ }));

export const EXPORT: Call = { name: "audit: export, its beginning", path: "/audit/export", begins: true, ...READ };

/** Another flag each round. */
export function writes(round: number, flags: number): Call[] {
  const flag = `flag-${(round * 10 + 1) % flags}`;
  const there = `${FLAGS}/${flag}/environments/production`;
  return [
    { name: "publish: a target", method: "PATCH", path: there, body: targets(round) },
    { name: "kill", method: "POST", path: `${there}/kill?wait=0`, body: { reason: "a bench" } },
    { name: "restore", method: "POST", path: `${there}/restore`, body: {} },
    { name: "rename", method: "PATCH", path: `${FLAGS}/${flag}`, body: { name: `Round ${round}` } },
    {
      name: "create",
      method: "POST",
      path: FLAGS,
      body: {
        key: `made-${round}`,
        type: "boolean",
        variations: [true, false].map((value) => ({ key: `v-${value}`, value })),
      },
    },
  ];
}

const targets = (round: number) => ({ targets: [{ variation: "on", values: [`user-${round}`] }] });
