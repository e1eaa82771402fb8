/** The import table of docs/architecture.md, executed. Type-only imports are free. */
import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

type Import = { file: string; target: string };

/** Folders and files that a place may import, beside its own folder; then packages. */
const table: Record<string, { files: string[]; packages: string[] }> = {
  "sdk/core": { files: [], packages: [] },
  "sdk/js": { files: ["sdk/core"], packages: [] },
  "durable-objects": {
    files: [
      "sdk/core",
      "workers/store",
      "workers/env.ts",
      "workers/platform/deadline.ts",
      "workers/platform/token-bucket.ts",
    ],
    packages: ["cloudflare:workers"],
  },
  "workers/platform/deadline.ts": { files: ["workers/platform/breaker.ts"], packages: [] },
  "workers/store": { files: ["sdk/core", "workers/platform/deadline.ts"], packages: ["drizzle-orm"] },
  "workers/edge": {
    files: [
      "workers/store",
      "workers/env.ts",
      "workers/platform/problem.ts",
      "workers/platform/deadline.ts",
      "workers/platform/token-bucket.ts",
      "workers/platform/request-body.ts",
      "workers/platform/rate-limit.ts",
      "workers/events/consumer.ts",
      "sdk/core",
      "durable-objects/relay/sockets.ts",
      "durable-objects/fan-out/tree.ts",
    ],
    packages: [],
  },
  "workers/admin": {
    files: [
      "workers/store",
      "workers/env.ts",
      "workers/platform/problem.ts",
      "workers/platform/deadline.ts",
      "workers/platform/token-bucket.ts",
      "workers/platform/request-body.ts",
      "workers/platform/rate-limit.ts",
      "workers/admin/write/write-line-client.ts",
      "sdk/core",
    ],
    packages: ["hono"],
  },
  "workers/index.ts": { files: ["workers", "durable-objects"], packages: ["hono", "cloudflare:workers"] },
  workers: { files: ["workers/store", "workers", "sdk/core"], packages: [] },
  scripts: { files: ["sdk/core/index.ts", "sdk/js"], packages: ["node:"] },
  examples: { files: ["sdk/js"], packages: ["node:"] },
  bench: {
    // The simulation decides with the functions that the product decides with.
    files: [
      "sdk/core",
      "sdk/js",
      "scripts",
      "test/support",
      "durable-objects/fan-out/tree.ts",
      "durable-objects/hub/relays-per-region.ts",
      "durable-objects/relay/occupancy.ts",
      "durable-objects/relay/delivery-statistics.ts",
    ],
    packages: ["node:"],
  },
};

/** Every other package stands behind one file (or, for zod, one folder). */
const behind: Record<string, RegExp> = {
  "@hono/zod-openapi": /^workers\/admin\//,
  "itty-durable/itty-durable.js": /^durable-objects\/rate-limiter\.ts$/,
  "itty-durable/proxy-durable.js": /^workers\/rate-limit\.ts$/,
  "node:zlib": /^workers\/(edge\/events|admin\/member-body)\.ts$/,
  "@openfeature/server-sdk": /^(sdk\/js\/openfeature-server\.ts|examples\/openfeature-node\/index\.ts)$/,
  "@vitejs/plugin-react": /^examples\/react\/vite\.config\.ts$/,
  vite: /^examples\/react\/vite\.config\.ts$/,
  "@openfeature/web-sdk": /^sdk\/js\/openfeature-web\.ts$/,
  "eventsource-parser": /^sdk\/js\/sse\.ts$/,
  react: /^(sdk\/js\/react|examples\/react\/index)\.tsx$/,
  "react-dom/client": /^examples\/react\/index\.tsx$/,
  esbuild: /^(bench|test)\//,
  miniflare: /^(bench|test)\//,
  ws: /^bench\//,
};

/** The benched peers have a package.json of their own, so that the product never depends on them. */
const peers = JSON.parse(readFileSync("bench/peers/package.json", "utf8")) as { dependencies: Record<string, string> };

const packagesOf = { "@bunting/core": "sdk/core", "@bunting/sdk": "sdk/js" } as const;

const sources = globSync("{sdk,workers,durable-objects,scripts,bench,examples}/**/*.{ts,tsx}").filter(
  (file) => !file.includes("node_modules") && !/\.test\.tsx?$/.test(file),
);

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
    const typeOnly = clause.startsWith("type ") || named?.every((name) => name.startsWith("type "));
    if (!typeOnly) found.push({ file, target: resolve(file, specifier) });
  }
  for (const [, specifier = ""] of text.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g)) {
    if (!/typeof\s+import\($/.test(text.slice(0, text.indexOf(specifier) - 1)))
      found.push({ file, target: resolve(file, specifier) });
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

/** The longest row of the table that the file falls under. */
const rowOf = (file: string) =>
  Object.keys(table)
    .filter((place) => inside(file, place))
    .sort((one, other) => other.length - one.length)[0];

function allowed({ file, target }: Import): boolean {
  const place = rowOf(file);
  if (place === undefined) return false;
  const row = table[place]!;
  if (!target.startsWith("package:")) return inside(target, place) || row.files.some((other) => inside(target, other));
  const name = target.slice("package:".length);
  if (row.packages.some((other) => name === other || name.startsWith(other.endsWith(":") ? other : `${other}/`)))
    return true;
  if (place === "sdk/js" && name.startsWith("node:")) return /(^|\/)node[^/]*\.ts$/.test(file);
  if (place === "sdk/js" && name.startsWith("cloudflare:")) return file === "sdk/js/workers.ts";
  if (inside(file, "bench/peers")) return Object.keys(peers.dependencies).some((peer) => inside(name, peer));
  return behind[name]?.test(file) ?? false;
}

describe("who may import whom", () => {
  test("there is something to look at", () => {
    expect(sources.length).toBeGreaterThan(30);
    expect(sources.flatMap(importsOf).length).toBeGreaterThan(80);
  });

  test("every import is in the table", () => {
    const forbidden = sources.flatMap(importsOf).filter((found) => !allowed(found));
    expect(forbidden).toEqual([]);
  });

  test("edge and admin never import each other", () => {
    const crossing = sources
      .flatMap(importsOf)
      .filter(
        ({ file, target }) =>
          (inside(file, "workers/edge") && inside(target, "workers/admin")) ||
          (inside(file, "workers/admin") && inside(target, "workers/edge")),
      );
    expect(crossing).toEqual([]);
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

  test("no file is longer than 400 lines", () => {
    const long = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*.{ts,tsx}")
      .filter((file) => !file.includes("node_modules"))
      .map((file) => ({ file, lines: readFileSync(file, "utf8").split("\n").length }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  test("nothing is called utils, helpers, common, shared, lib, types, services or managers", () => {
    const vague = globSync("{sdk,workers,durable-objects,scripts,bench,test}/**/*")
      .filter((file) => !file.includes("node_modules"))
      .filter((file) => /(^|\/)(utils?|helpers?|common|shared|lib|types|services?|managers?)(\.|\/|$)/.test(file));
    expect(vague).toEqual([]);
  });
});

function codeOf(file: string): string {
  return readFileSync(file, "utf8")
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/\/\/.*$/gm, "");
}
