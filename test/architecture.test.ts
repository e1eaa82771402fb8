/** The rooms of docs/architecture.md and who may import whom, executed. Type-only imports are free, but for circles. */
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

type Import = { file: string; target: string; isType: boolean; isLazy: boolean };

/** What every part of the Worker stands on. */
const ground = ["workers/platform", "workers/store", "sdk/core"];
/** What every operation of the management plane is made of. */
const tools = [
  "workers/admin/write",
  "workers/admin/documents",
  "workers/admin/http",
  "workers/admin/limits.ts",
  ...ground,
];
const management = ["workers/admin/operation.ts", ...tools];

/**
 * A file is in the room that names it most closely, and may import its own room and what stands beside it here: a room,
 * without the rooms inside it, or a folder or file of one. Rooms are listed from the ground up, and none imports one below it.
 */
const rooms: Record<string, string[]> = {
  "sdk/core": [],
  "sdk/js/sync": ["sdk/core"],
  "sdk/js/transports": ["sdk/core"],
  "sdk/js": ["sdk/js/sync", "sdk/js/transports", "sdk/core"],

  "workers/platform": [],
  "workers/store": ["workers/platform", "sdk/core"],

  "durable-objects": ["workers/platform"],
  "durable-objects/fan-out": ["workers/platform", "sdk/core"],
  "durable-objects/hub": ["durable-objects/fan-out", "durable-objects", ...ground],
  "durable-objects/relay": ["durable-objects/fan-out", "durable-objects", "workers/platform", "sdk/core"],
  "durable-objects/segment": ground,
  "durable-objects/write-line": [],

  "workers/events": ground,

  "workers/edge/relays": ["durable-objects/fan-out"],
  "workers/edge/ruleset": ["workers/edge/relays", ...ground],
  "workers/edge": ["workers/edge/ruleset", ...ground],
  "workers/edge/events": ground,
  "workers/edge/streams": [
    "workers/edge",
    "workers/edge/ruleset",
    "workers/edge/relays",
    "durable-objects/fan-out",
    ...ground,
  ],
  "workers/edge/endpoints": [
    "workers/edge",
    "workers/edge/events",
    "workers/edge/ruleset",
    "workers/edge/streams",
    ...ground,
  ],

  "workers/admin/limits.ts": ["sdk/core"],
  "workers/admin/http": ["workers/admin/limits.ts", ...ground],
  "workers/admin/documents": [
    "workers/admin/http/contract.ts",
    "workers/admin/http/quantities.ts",
    "workers/admin/http/validation-errors.ts",
    "workers/admin/http/zod.ts",
    "workers/admin/limits.ts",
    "workers/platform/problem.ts",
    "workers/platform/random-id.ts",
    "sdk/core",
  ],
  "workers/admin/write": tools,
  "workers/admin/operation.ts": tools,
  "workers/admin/flags": management,
  "workers/admin/segments": management,
  "workers/admin/environments": ["workers/admin/flags", ...management],
  "workers/admin/credentials": management,
  "workers/admin/audit": ["workers/admin/flags", ...management],
  "workers/admin/approvals": management,
  "workers/admin/planned": ["workers/admin/approvals", "workers/admin/flags", ...management],
  "workers/admin/approvals/change-requests": [
    "workers/admin/approvals",
    "workers/admin/audit",
    "workers/admin/environments",
    "workers/admin/flags",
    "workers/admin/planned",
    "workers/admin/segments",
    ...management,
  ],
  "workers/admin": [
    "workers/admin/approvals",
    "workers/admin/approvals/change-requests",
    "workers/admin/audit",
    "workers/admin/credentials",
    "workers/admin/environments",
    "workers/admin/flags",
    "workers/admin/planned",
    "workers/admin/segments",
    ...management,
  ],

  workers: ["workers/events", ...ground],
  "workers/index.ts": [
    "workers",
    "workers/admin",
    "workers/admin/write",
    "workers/edge",
    "workers/edge/endpoints",
    "workers/events",
    "workers/platform",
    "durable-objects",
    "durable-objects/hub",
    "durable-objects/relay",
    "durable-objects/segment",
    "durable-objects/write-line",
  ],

  scripts: ["sdk/js"],
  examples: ["sdk/js"],
  // The simulation decides with the functions that the product decides with.
  bench: [
    "sdk/core",
    "sdk/js",
    "test/support",
    "durable-objects/fan-out/tree.ts",
    "durable-objects/fan-out/pacing.ts",
    "durable-objects/hub/relays-per-region.ts",
    "durable-objects/relay/admission.ts",
    "workers/edge/relays/choice.ts",
    "durable-objects/relay/delivery-statistics.ts",
  ],
};

/** Every package stands behind one file or folder. */
const packages: Record<string, RegExp> = {
  "@asteasolutions/zod-to-openapi": /^workers\/admin\/http\//,
  "@openfeature/server-sdk": /^(sdk\/js\/openfeature-server\.ts|examples\/openfeature-node\/index\.ts)$/,
  "@openfeature/web-sdk": /^sdk\/js\/openfeature-web\.ts$/,
  "@vitejs/plugin-react": /^examples\/react\/vite\.config\.ts$/,
  "cloudflare:workers": /^(durable-objects\/|workers\/index\.ts$|sdk\/js\/workers\.ts$)/,
  "drizzle-orm": /^workers\/store\//,
  esbuild: /^(bench|test)\//,
  "eventsource-parser": /^sdk\/js\/sse\.ts$/,
  hono: /^workers\/admin\//,
  "itty-durable/itty-durable.js": /^durable-objects\/rate-limiter\.ts$/,
  "itty-durable/proxy-durable.js": /^workers\/platform\/rate-limit\.ts$/,
  miniflare: /^(bench|test)\//,
  "node:": /^(scripts|examples|bench|sdk\/js\/node)\/|^sdk\/js\/node\.ts$/,
  "node:zlib": /^workers\/(edge\/events\/intake|admin\/segments\/upload-body)\.ts$/,
  react: /^(sdk\/js\/react|examples\/react\/index)\.tsx$/,
  "react-dom/client": /^examples\/react\/index\.tsx$/,
  vite: /^examples\/react\/vite\.config\.ts$/,
  ws: /^(bench\/|sdk\/js\/node\/socket\.ts$)/,
  zod: /^workers\/admin\/http\/zod\.ts$/,
};

/** The benched peers have a package.json of their own, so that the product never depends on them. */
const peers = JSON.parse(readFileSync("bench/peers/package.json", "utf8")) as { dependencies: Record<string, string> };

const packagesOf = { "@bunting/core": "sdk/core", "@bunting/sdk": "sdk/js" } as const;

const isInstalled = (file: string) => file.includes("node_modules");
const isTest = (file: string) => /\.test\.tsx?$/.test(file);

const sources = globSync("{sdk,workers,durable-objects,scripts,bench,examples}/**/*.{ts,tsx}").filter(
  (file) => !isInstalled(file) && !isTest(file),
);
const production = globSync("{sdk,workers,durable-objects}/**/*.{ts,tsx}").filter((file) => !isInstalled(file));

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const found: Import[] = [];
  for (const [, clause = "", specifier = ""] of text.matchAll(
    /^(?:import|export)\s+([^"';]*?\s+from\s+)?"([^"]+)"/gm,
  )) {
    const named = /^\{([\s\S]*)\}/
      .exec(clause)?.[1]
      ?.split(",")
      .map((name) => name.trim())
      .filter(Boolean);
    const isType = clause.startsWith("type ") || (named?.every((name) => name.startsWith("type ")) ?? false);
    found.push({ file, target: resolve(file, specifier), isType, isLazy: false });
  }
  for (const [, before, specifier = ""] of text.matchAll(/(typeof\s+)?\bimport\(\s*"([^"]+)"\s*\)/g)) {
    found.push({ file, target: resolve(file, specifier), isType: before !== undefined, isLazy: true });
  }
  return found;
}

function resolve(file: string, specifier: string): string {
  if (specifier.startsWith(".")) return join(dirname(file), specifier);
  for (const [name, folder] of Object.entries(packagesOf)) {
    if (specifier === name) return `${folder}/index.ts`;
    if (specifier.startsWith(`${name}/`)) return `${folder}/${specifier.slice(name.length + 1)}.ts`;
  }
  return `package:${specifier}`;
}

const inside = (path: string, place: string) => path === place || path.startsWith(`${place}/`);

const roomOf = (path: string) =>
  Object.keys(rooms)
    .filter((room) => inside(path, room))
    .sort((one, other) => other.length - one.length)[0];

/** An entry of the table that names a room is that room alone; any other is a place in one. */
const isAt = (target: string, entry: string) => (entry in rooms ? roomOf(target) === entry : inside(target, entry));

function isAllowed({ file, target }: Import): boolean {
  const room = roomOf(file);
  if (room === undefined) return false;
  if (!target.startsWith("package:"))
    return roomOf(target) === room || rooms[room]!.some((entry) => isAt(target, entry));
  const name = target.slice("package:".length);
  if (inside(file, "bench/peers") && Object.keys(peers.dependencies).some((peer) => inside(name, peer))) return true;
  return Object.entries(packages).some(
    ([entry, files]) => (entry.endsWith(":") ? name.startsWith(entry) : inside(name, entry)) && files.test(file),
  );
}

const values = sources.flatMap(importsOf).filter(({ isType }) => !isType);

/** What a file imports at run time, and what that imports, and so on. */
function reachedFrom(start: string[], imports = values): string[] {
  const reached = new Set(start);
  for (const file of reached) for (const one of imports) if (one.file === file) reached.add(one.target);
  return [...reached];
}

/** A circle of arrows, or null: the first that is met. */
function circleIn(arrows: Map<string, string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (node: string, path: string[]): string[] | null => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return null;
    for (const next of arrows.get(node) ?? []) {
      const circle = visit(next, [...path, node]);
      if (circle !== null) return circle;
    }
    done.add(node);
    return null;
  };
  for (const node of arrows.keys()) {
    const circle = visit(node, []);
    if (circle !== null) return circle;
  }
  return null;
}

describe("who may import whom", () => {
  test("there is something to look at", () => {
    expect(sources.length).toBeGreaterThan(200);
    expect(values.length).toBeGreaterThan(800);
  });

  test("every import is in the table", () => {
    expect(values.filter((found) => !isAllowed(found))).toEqual([]);
  });

  test("every entry of the table is used, and names something", () => {
    const unused = Object.entries(rooms).flatMap(([room, entries]) => {
      const targets = values.filter(({ file }) => roomOf(file) === room).map(({ target }) => target);
      const own = entries.filter((entry) => !ground.includes(entry) && !management.includes(entry));
      return own.filter((entry) => !targets.some((target) => isAt(target, entry))).map((entry) => `${room} → ${entry}`);
    });
    expect(unused).toEqual([]);
  });

  test("nothing runs upward: the table has no circle", () => {
    const arrows = Object.entries(rooms).map(([room, entries]): [string, string[]] => [
      room,
      entries.map((entry) => roomOf(entry)!).filter((other) => other !== room),
    ]);
    expect(circleIn(new Map(arrows))).toBeNull();
  });

  test("no files import each other in a circle, by types neither", () => {
    // The bindings name the classes of the Durable Objects, which have bindings: that circle is what `Env` is.
    const arrows = production
      .filter((file) => !isTest(file) && file !== "workers/env.ts")
      .map((file): [string, string[]] => [file, importsOf(file).map(({ target }) => target)]);
    expect(circleIn(new Map(arrows))).toBeNull();
  });

  test("documents reach no storage and no Durable Object, by any way", () => {
    const start = sources.filter((file) => inside(file, "workers/admin/documents"));
    const reached = reachedFrom(start).filter((path) => /^(workers\/store|durable-objects)\//.test(path));
    expect(start.length).toBeGreaterThan(5);
    expect(reached).toEqual([]);
  });

  test("the data plane reaches no management plane, and of the Durable Objects the fan-out alone", () => {
    const start = sources.filter((file) => inside(file, "workers/edge"));
    const reached = reachedFrom(start).filter(
      (path) =>
        inside(path, "workers/admin") ||
        (inside(path, "durable-objects") && !inside(path, "durable-objects/fan-out")) ||
        /^package:(hono|@hono|zod)/.test(path),
    );
    expect(start.length).toBeGreaterThan(15);
    expect(reached).toEqual([]);
  });

  test("a new isolate evaluates nothing that only management and cron need", () => {
    const evaluated = values.filter(({ isLazy }) => !isLazy);
    const reached = reachedFrom(["workers/index.ts"], evaluated).filter(
      (path) =>
        ["workers/admin/api.ts", "workers/admin/due.ts", "workers/admin/operation.ts", "workers/sweep.ts"].includes(
          path,
        ) || /^package:(hono|zod|@asteasolutions)/.test(path),
    );
    expect(reached).toEqual([]);
  });

  test("the core reads no clock, no random source and no network (EV-1)", () => {
    const impure =
      /\b(Date\.now|new Date\(\)|Math\.random|fetch\(|crypto\.|setTimeout|setInterval|queueMicrotask|process\.)/;
    const offenders = sources.filter((file) => inside(file, "sdk/core") && impure.test(codeOf(file)));
    expect(offenders).toEqual([]);
  });

  test("workers/index.ts is composition only: at most 60 lines", () => {
    expect(readFileSync("workers/index.ts", "utf8").trimEnd().split("\n").length).toBeLessThanOrEqual(60);
  });
});

describe("rooms", () => {
  const byFolder = Map.groupBy(production, dirname);

  test("have at most 25 files", () => {
    const crowded = [...byFolder]
      .filter(([, files]) => files.length > 25)
      .map(([folder, files]) => [folder, files.length]);
    expect(crowded).toEqual([]);
  });

  test("have no three files with a common prefix: those are a room", () => {
    const prefixed = [...byFolder].flatMap(([folder, files]) => {
      const names = files.filter((file) => !isTest(file)).map((file) => basename(file).replace(/\.tsx?$/, ""));
      const byPrefix = Map.groupBy(names, (name) => name.split("-")[0]!);
      return [...byPrefix].filter(([, all]) => all.length >= 3).map(([prefix]) => `${folder}/${prefix}-*`);
    });
    expect(prefixed).toEqual([]);
  });

  test("have no file longer than 400 lines", () => {
    const long = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*.{ts,tsx}")
      .filter((file) => !isInstalled(file))
      .map((file) => ({ file, lines: readFileSync(file, "utf8").split("\n").length }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  test("are not called utils, helpers, common, shared, lib, types, services or managers, nor are files", () => {
    const vague = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*")
      .filter((file) => !isInstalled(file))
      .filter((file) => /(^|\/)(utils?|helpers?|common|shared|lib|types|services?|managers?)(\.|\/|$)/.test(file));
    expect(vague).toEqual([]);
  });
});

describe("what is written about files", () => {
  test("names files that are there", () => {
    const text = [...globSync("{*.md,docs/**/*.md,sdk/*/README.md,*.toml}"), ...production];
    const missing = text
      .filter((file) => !isInstalled(file))
      .flatMap((file) => {
        const written = /\.md$|\.toml$/.test(file) ? readFileSync(file, "utf8") : commentsOf(file);
        const paths = written.matchAll(
          /(?<![\w/.*-])((?:sdk|workers|durable-objects|test|bench|scripts)\/[\w./-]+\.tsx?)\b/g,
        );
        return [...paths].filter(([, path = ""]) => globSync(path).length === 0).map(([, path]) => `${file}: ${path}`);
      });
    expect(missing).toEqual([]);
  });
});

function codeOf(file: string): string {
  return readFileSync(file, "utf8")
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/\/\/.*$/gm, "");
}

function commentsOf(file: string): string {
  const comments = readFileSync(file, "utf8").match(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm);
  return comments?.join("\n") ?? "";
}
