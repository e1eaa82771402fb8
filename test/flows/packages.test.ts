/** What `npm publish` would publish, as somebody has it who installs it: outside the repository, from the tarballs. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { booleanFlag, rulesetOf } from "../support/peer.ts";

const packages = { "@bunting/core": "sdk/core", "@bunting/sdk": "sdk/js" };
/** What the packages ask for, and what a customer has beside them, taken from here: the registry is not asked. */
const others = [
  "eventsource-parser",
  "@openfeature/core",
  "@openfeature/server-sdk",
  "@openfeature/web-sdk",
  "react",
  "csstype",
  "@types/react",
  "@types/node",
  "undici-types",
];

const outside = mkdtempSync(join(tmpdir(), "bunting-packages-"));
const tarballs = join(outside, "tarballs");
const project = join(outside, "project");
const tarballOf = (name: string) => join(tarballs, `${name.slice(1).replace("/", "-")}-0.1.0.tgz`);

const npm = (args: string[], cwd?: string) =>
  execFileSync("npm", [...args, "--loglevel=error"], { cwd, stdio: "pipe" });
const exportsOf = (folder: string) =>
  Object.keys((JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { exports: object }).exports);
const entries = Object.entries(packages).flatMap(([name, folder]) =>
  exportsOf(folder).map((path) => ({ specifier: join(name, path), folder })),
);

beforeAll(() => {
  mkdirSync(tarballs);
  mkdirSync(project);
  execFileSync(process.execPath, ["scripts/pack.ts", tarballs], { stdio: "pipe" });
  const folders = others.map((name) => resolve("node_modules", name));
  npm(["pack", ...folders, "--pack-destination", tarballs, "--ignore-scripts"]);
  writeFileSync(join(project, "package.json"), '{ "name": "customer", "private": true, "type": "module" }');
  const all = readdirSync(tarballs).map((file) => join(tarballs, file));
  npm(["install", ...all, "--offline", "--ignore-scripts"], project);
});
afterAll(() => rmSync(outside, { recursive: true }));

/** What a file of the customer's prints. */
function run(file: string, text: string): string {
  writeFileSync(join(project, file), text);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: project, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout.trim();
}

test("the packages hold what is used, a licence and a page to read, and neither sources nor tests", () => {
  for (const [name, folder] of Object.entries(packages)) {
    const files = execFileSync("tar", ["tzf", tarballOf(name)], { encoding: "utf8" })
      .trim()
      .split("\n");
    expect(files.filter((file) => !/^package\/([a-z-]+\/)*[a-z-]+(\.js|\.d\.ts)$/.test(file)).sort()).toEqual([
      "package/LICENSE",
      "package/README.md",
      "package/package.json",
    ]);
    expect(files.filter((file) => /\.test\./.test(file))).toEqual([]);
    const readme = readFileSync(join(project, "node_modules", name, "README.md"), "utf8");
    for (const path of exportsOf(folder)) expect(readme).toContain(join(name, path));
  }
});

test("every file that a packed file imports is packed, for JavaScript and for types", () => {
  for (const name of Object.keys(packages)) {
    const packed = join(outside, "packed", name);
    mkdirSync(packed, { recursive: true });
    execFileSync("tar", ["xzf", tarballOf(name), "-C", packed, "--strip-components=1"]);
    const files = readdirSync(packed, { recursive: true, encoding: "utf8" }).filter((file) =>
      /\.(js|d\.ts)$/.test(file),
    );
    const imported = files.flatMap((file) =>
      [...readFileSync(join(packed, file), "utf8").matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map(
        ([, path]) => {
          const script = path!.replace(/\.tsx?$/, ".js");
          return { file, needs: file.endsWith(".d.ts") ? script.replace(/\.js$/, ".d.ts") : script };
        },
      ),
    );
    expect(imported.length).toBeGreaterThan(files.length / 2);
    expect(imported.filter(({ file, needs }) => !existsSync(join(packed, dirname(file), needs)))).toEqual([]);
  }
});

describe.each(entries)("$specifier", ({ specifier, folder }) => {
  // Names at run time, from the source that the entry was built from.
  const names = async () => {
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      exports: Record<string, string>;
    };
    const path = `.${specifier
      .split("/")
      .slice(2)
      .map((step) => `/${step}`)
      .join("")}`;
    return Object.keys(await import(resolve(folder, manifest.exports[path]!))).sort();
  };

  test("is imported by an ES module", async () => {
    const printed = run(
      "a.mjs",
      `import * as all from "${specifier}"; console.log(JSON.stringify(Object.keys(all).sort()));`,
    );
    expect(JSON.parse(printed)).toEqual(await names());
  });

  test("is required by CommonJS", async () => {
    const printed = run("a.cjs", `console.log(JSON.stringify(Object.keys(require("${specifier}")).sort()));`);
    expect((JSON.parse(printed) as string[]).filter((name) => name !== "__esModule")).toEqual(await names());
  });
});

test("what is installed evaluates, and is the same whether imported or required", () => {
  const ruleset = JSON.stringify(rulesetOf(1, [booleanFlag("new-checkout", true, 1)]));
  const script = [
    'import { createRequire } from "node:module";',
    'import { compile } from "@bunting/core";',
    'import { createTestClient } from "@bunting/sdk/testing";',
    `const { value, reason } = compile(${ruleset}).evaluate("new-checkout", { targetingKey: "ada" }, false);`,
    'const same = createRequire(import.meta.url)("@bunting/core").compile === compile;',
    'const tested = createTestClient({ flags: { theme: "dark" } }).string("theme", "light");',
    "console.log(JSON.stringify({ value, reason, same, tested }));",
  ];
  const printed = JSON.parse(run("evaluates.mjs", script.join("\n"))) as object;
  expect(printed).toEqual({ value: true, reason: "STATIC", same: true, tested: "dark" });
});

test.each([
  ["node16", "node16"],
  ["node20", "node16"],
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])("the types are found by module %s with resolution %s, and are whole", (module, moduleResolution) => {
  const lines = entries.map(
    ({ specifier }, index) => `import * as entry${index} from "${specifier}"; void entry${index};`,
  );
  const use = [
    'import { createClient, type Client } from "@bunting/sdk/node";',
    'type Flags = { "new-checkout": boolean; theme: string };',
    'const client: Client<Flags> = createClient<Flags>({ serverKey: "bnt_srv_a_b", url: "https://flags.example.com" });',
    'const value: boolean = client.boolean("new-checkout", false, { targetingKey: "user-42" });',
    "// @ts-expect-error: it is a text",
    'client.boolean("theme", false);',
    "void value;",
  ];
  writeFileSync(join(project, "types.ts"), [...lines, ...use].join("\n"));
  const compilerOptions = {
    module,
    moduleResolution,
    target: "es2024",
    lib: ["es2024", "dom", "dom.iterable"],
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    // Theirs too are looked at: ours are among them.
    skipLibCheck: false,
    noEmit: true,
  };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["types.ts"] }));
  const tsc = spawnSync(process.execPath, [resolve("node_modules/typescript/bin/tsc"), "-p", project], {
    encoding: "utf8",
  });
  expect(tsc.stdout).toBe("");
  expect(tsc.status).toBe(0);
});

test.each(Object.keys(packages))("publint and arethetypeswrong find nothing in %s", async (name) => {
  const data = new Uint8Array(readFileSync(tarballOf(name)));
  const { messages, pkg } = await publint({ pack: { tarball: data.buffer as ArrayBuffer }, strict: true });
  expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  const result = await checkPackage(createPackageFromTarballData(data));
  expect(result.types).toBeTruthy();
  const problems = "problems" in result ? result.problems : [];
  // ES modules only: `require` loads them since Node 22.12, which these two resolutions, older than that, cannot know.
  const ofOldNode = (problem: (typeof problems)[number]) =>
    problem.kind === "CJSResolvesToESM" || ("resolutionKind" in problem && problem.resolutionKind === "node10");
  expect(problems.filter((problem) => !ofOldNode(problem))).toEqual([]);
});
