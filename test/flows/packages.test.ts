/** What `npm publish` would publish, as somebody has it who installs it: outside the repository, from the tarballs. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { booleanFlag, Peer, rulesetOf, SERVER_KEY } from "../support/peer.ts";

/** Each is installed in a project of its own: the SDK has the engine inside it. */
const packages = { "@bunting/core": "sdk/core", "@bunting/sdk": "sdk/js" };
type Name = keyof typeof packages;
const names = Object.keys(packages) as Name[];
/** What the packages ask for, and what a customer has beside them, taken from here: the registry is not asked. */
const others = [
  "eventsource-parser",
  "ws",
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
const projectOf = (name: string) => join(outside, name);
const sdk = projectOf("@bunting/sdk");
const tarballOf = (name: string) => join(tarballs, `${name.slice(1).replace("/", "-")}-0.1.0.tgz`);

const npm = (args: string[], cwd?: string) =>
  execFileSync("npm", [...args, "--loglevel=error"], { cwd, stdio: "pipe" });
const exportsOf = (folder: string) =>
  (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { exports: Record<string, string> }).exports;
const entries = names.flatMap((name) =>
  Object.entries(exportsOf(packages[name])).map(([path, source]) => ({
    specifier: join(name, path),
    project: projectOf(name),
    source: resolve(packages[name], source),
  })),
);

/** The Node of the tests, and the machine's own: where that is 20, it has no WebSocket and an older `require`. */
const nodes = [process.execPath, machinesNode()].map((path) => ({
  path,
  version: execFileSync(path, ["--version"], { encoding: "utf8" }).trim(),
}));

function machinesNode(): string {
  const folders = process.env.PATH!.split(delimiter).filter((folder) => !folder.includes("node_modules"));
  return folders.map((folder) => join(folder, "node")).find((path) => existsSync(path)) ?? process.execPath;
}

let packingSaid = "";
beforeAll(() => {
  mkdirSync(tarballs);
  packingSaid = execFileSync(process.execPath, ["scripts/pack.ts", tarballs], { encoding: "utf8" });
  // The SDK's parser lies below it, for another of its version lies above.
  const folders = others.map((other) => [resolve("sdk/js/node_modules", other), resolve("node_modules", other)]);
  const found = folders.map((places) => places.find((place) => existsSync(place))!);
  npm(["pack", ...found, "--pack-destination", tarballs, "--ignore-scripts"]);
  const ours = names.map(tarballOf);
  const theirs = readdirSync(tarballs)
    .map((file) => join(tarballs, file))
    .filter((file) => !ours.includes(file));
  for (const name of names) {
    mkdirSync(projectOf(name), { recursive: true });
    writeFileSync(join(projectOf(name), "package.json"), '{ "name": "customer", "private": true }');
    npm(["install", tarballOf(name), ...theirs, "--offline", "--ignore-scripts"], projectOf(name));
  }
});
afterAll(() => rmSync(outside, { recursive: true }));

/** What a file of the customer's prints. */
function run(project: string, file: string, text: string, node = process.execPath): string {
  writeFileSync(join(project, file), text);
  const { status, stdout, stderr } = spawnSync(node, [file], { cwd: project, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout.trim();
}

test("`npm run pack` says what it made and how the SDK is installed", () => {
  expect(packingSaid).toContain("bunting-sdk-0.1.0.tgz");
  expect(packingSaid).toContain(`npm install ${tarballOf("@bunting/sdk")}\n`);
});

test("the packages hold what is used, a licence and a page to read, and neither sources nor tests", () => {
  for (const [name, folder] of Object.entries(packages)) {
    const files = execFileSync("tar", ["tzf", tarballOf(name)], { encoding: "utf8" })
      .trim()
      .split("\n");
    expect(files.filter((file) => !/^package\/([a-z-]+\/)*[a-z-]+(\.js|\.d\.ts)$/.test(file)).sort()).toEqual([
      "package/LICENSE",
      "package/README.md",
      "package/cjs/package.json",
      "package/package.json",
    ]);
    expect(files.filter((file) => /\.test\./.test(file))).toEqual([]);
    const readme = readFileSync(join(projectOf(name), "node_modules", name, "README.md"), "utf8");
    for (const path of Object.keys(exportsOf(folder))) expect(readme).toContain(join(name, path));
  }
});

test("every file that a packed file imports is packed, for JavaScript and for types", () => {
  for (const name of names) {
    const packed = join(outside, "packed", name);
    mkdirSync(packed, { recursive: true });
    execFileSync("tar", ["xzf", tarballOf(name), "-C", packed, "--strip-components=1"]);
    const files = readdirSync(packed, { recursive: true, encoding: "utf8" }).filter((file) =>
      /\.(js|d\.ts)$/.test(file),
    );
    const imported = files.flatMap((file) =>
      [...readFileSync(join(packed, file), "utf8").matchAll(/\b(?:from|import|require)\s*\(?\s*"(\.[^"]+)"/g)].map(
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

describe.each(entries)("$specifier", ({ specifier, project, source }) => {
  // Names at run time, from the source that the entry was built from.
  const exported = async () => Object.keys(await import(source)).sort();

  test.each(nodes)("is imported by an ES module in Node $version", async ({ path }) => {
    const code = `import * as all from "${specifier}"; console.log(JSON.stringify(Object.keys(all).sort()));`;
    expect(JSON.parse(run(project, "a.mjs", code, path))).toEqual(await exported());
  });

  test.each(nodes)("is required by CommonJS in Node $version", async ({ path }) => {
    const code = `console.log(JSON.stringify(Object.keys(require("${specifier}")).sort()));`;
    const required = JSON.parse(run(project, "a.cjs", code, path)) as string[];
    expect(required.filter((name) => name !== "__esModule")).toEqual(await exported());
  });
});

test.each(nodes)(
  "what is installed evaluates, and is the same whether imported or required, in Node $version",
  (node) => {
    const ruleset = JSON.stringify(rulesetOf(1, [booleanFlag("new-checkout", true, 1)]));
    const evaluates = [
      'import { createRequire } from "node:module";',
      'import { compile } from "@bunting/core";',
      `const { value, reason } = compile(${ruleset}).evaluate("new-checkout", { targetingKey: "ada" }, false);`,
      'const same = createRequire(import.meta.url)("@bunting/core").compile === compile;',
      "console.log(JSON.stringify({ value, reason, same }));",
    ];
    const printed = JSON.parse(
      run(projectOf("@bunting/core"), "evaluates.mjs", evaluates.join("\n"), node.path),
    ) as object;
    expect(printed).toEqual({ value: true, reason: "STATIC", same: true });
  },
);

test.each(nodes)("the test client of the SDK can be reset in Node $version", ({ path }) => {
  const code = `
    const { createTestClient } = require("@bunting/sdk/testing");
    const client = createTestClient({ flags: { theme: "dark" } });
    client.set("theme", "light");
    client.reset();
    console.log(client.string("theme", ""));`;
  expect(run(sdk, "resets.cjs", code, path)).toBe("dark");
});

describe("a kill arrives by WebSocket", () => {
  test.each(nodes)("in Node $version", async ({ path }) => {
    const peer = await new Peer(rulesetOf(10, [booleanFlag("new-checkout", true, 1)])).start();
    onTestFinished(() => peer.stop());
    const code = `
      const { createClient } = require("@bunting/sdk/node");
      const client = createClient({ serverKey: "${SERVER_KEY}", url: "${peer.url}" });
      client.on("connected", () => console.log(client.status().transport, client.boolean("new-checkout", false)));
      client.on("change", () => console.log(client.boolean("new-checkout", true)));
      setInterval(() => {}, 60_000); // A client holds no process.`;
    writeFileSync(join(sdk, "kill.cjs"), code);
    const child = spawn(path, ["kill.cjs"], { cwd: sdk });
    onTestFinished(() => void child.kill());
    let printed = "";
    child.stdout.on("data", (data) => {
      printed += data;
    });
    await vi.waitFor(() => expect(printed).toBe("websocket true\n"), { timeout: 20_000 });
    peer.publish(booleanFlag("new-checkout", false, 2, { killed: true }));
    await vi.waitFor(() => expect(printed).toBe("websocket true\nfalse\n"), { timeout: 20_000 });
  });
});

describe("a customer's tests", () => {
  const cases = `
    test("a flag of the test", () => {
      const client = createTestClient({ flags: { "new-checkout": true } });
      expect(client.boolean("new-checkout", false)).toBe(true);
      client.reset();
    });
    test("the client itself, with what it depends on", async () => {
      await createClient({ serverKey: "bnt_srv_a_b", url: "http://127.0.0.1:9", logger }).close();
    });
    const logger = { warn() {}, error() {}, info() {}, debug() {} };`;
  const imports = `
    import { createTestClient } from "@bunting/sdk/testing";
    import { createClient } from "@bunting/sdk/node";`;
  const requires = `
    const { createTestClient } = require("@bunting/sdk/testing");
    const { createClient } = require("@bunting/sdk/node");`;
  const expects = "const expect = (value) => ({ toBe: (right) => assert.strictEqual(value, right) });";
  const jest = [resolve("node_modules/jest/bin/jest.js"), "--rootDir", ".", "--testMatch", "**/*.jest.*"];

  test.each([
    ["Jest", "CommonJS", "cjs.jest.js", requires, jest],
    ["Jest", "ES modules", "esm.jest.mjs", imports, ["--experimental-vm-modules", ...jest]],
    [
      "Vitest",
      "ES modules",
      "vitest.test.js",
      imports,
      [resolve("node_modules/vitest/vitest.mjs"), "run", "--globals"],
    ],
    [
      "node:test",
      "CommonJS",
      "test.cjs",
      `const { test } = require("node:test"); const assert = require("node:assert"); ${expects} ${requires}`,
      ["--test"],
    ],
    [
      "node:test",
      "ES modules",
      "test.mjs",
      `import { test } from "node:test"; import assert from "node:assert"; ${expects} ${imports}`,
      ["--test"],
    ],
  ])("run in %s, as %s, in every Node", (runner, _format, file, head, command) => {
    writeFileSync(join(sdk, file), head + cases);
    for (const { path } of nodes) {
      const { status, stdout, stderr } = spawnSync(path, [...command, file], { cwd: sdk, encoding: "utf8" });
      const said = `${stdout}${stderr}`;
      expect({ status, said }).toEqual({ status: 0, said });
      expect(said, runner).toMatch(/2 passed|pass 2/);
    }
  });
});

test.each([
  ["node16", "node16"],
  ["node20", "node16"],
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])("the types are found by module %s with resolution %s, and are whole", (module, moduleResolution) => {
  const use = [
    'import { createClient, type Client } from "@bunting/sdk/node";',
    'type Flags = { "new-checkout": boolean; theme: string };',
    'const client: Client<Flags> = createClient<Flags>({ serverKey: "bnt_srv_a_b", url: "https://flags.example.com" });',
    'const value: boolean = client.boolean("new-checkout", false, { targetingKey: "user-42" });',
    "// @ts-expect-error: it is a text",
    'client.boolean("theme", false);',
    "void value;",
  ];
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
  for (const name of names) {
    const project = projectOf(name);
    const lines = entries
      .filter((entry) => entry.project === project)
      .map(({ specifier }, index) => `import * as entry${index} from "${specifier}"; void entry${index};`);
    const files = ["types.mts", "types.cts"];
    for (const file of files)
      writeFileSync(join(project, file), [...lines, ...(name === "@bunting/sdk" ? use : [])].join("\n"));
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
    const tsc = spawnSync(process.execPath, [resolve("node_modules/typescript/bin/tsc"), "-p", project], {
      encoding: "utf8",
    });
    expect(tsc.stdout).toBe("");
    expect(tsc.status).toBe(0);
  }
});

test.each(names)("publint and arethetypeswrong find nothing in %s", async (name) => {
  const data = new Uint8Array(readFileSync(tarballOf(name)));
  const { messages, pkg } = await publint({ pack: { tarball: data.buffer as ArrayBuffer }, strict: true });
  expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  const result = await checkPackage(createPackageFromTarballData(data));
  expect(result.types).toBeTruthy();
  const problems = "problems" in result ? result.problems : [];
  // Node 10 knows no `exports`.
  const ofOldNode = (problem: (typeof problems)[number]) =>
    "resolutionKind" in problem && problem.resolutionKind === "node10";
  expect(problems.filter((problem) => !ofOldNode(problem))).toEqual([]);
});
