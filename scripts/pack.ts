/**
 * `npm run pack [-- FOLDER]`: the published packages as tarballs in FOLDER (`.bunting/packages`), ready for `npm publish`. In the
 * repository their `exports` point at the sources; what is packed is built from these: JavaScript, types and nothing else.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";

type Manifest = {
  name: string;
  version: string;
  exports: Record<string, string>;
  dependencies?: Record<string, string>;
  [field: string]: unknown;
};

const packages = ["sdk/core", "sdk/js"];
const destination = resolve(process.argv[2] ?? ".bunting/packages");

// Inside the checkout, so that the compiler finds the types of packages.
mkdirSync(".bunting", { recursive: true });
const work = mkdtempSync(resolve(".bunting/pack-"));
try {
  const manifests = new Map(packages.map((folder) => [folder, manifestOf(folder)]));
  // One by one: the compiler leaves out what it meets as a dependency of another package before it meets it as a file.
  for (const [folder, { exports }] of manifests) build(Object.values(exports).map((file) => join(folder, file)));
  for (const [folder, manifest] of manifests) {
    const built = join(work, "built", basename(folder));
    for (const file of ["README.md", "LICENSE"])
      cpSync(file === "LICENSE" ? file : join(folder, file), join(built, file));
    writeFileSync(join(built, "package.json"), JSON.stringify(published(manifest, [...manifests.values()]), null, 2));
  }
  mkdirSync(destination, { recursive: true });
  const folders = packages.map((folder) => join(work, "built", basename(folder)));
  run("npm", ["pack", ...folders, "--pack-destination", destination, "--loglevel=error"]);
} finally {
  rmSync(work, { recursive: true });
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
}

/** Only what the entries import: neither tests nor anything else that lies beside them. */
function build(entries: string[]): void {
  const config = {
    extends: resolve("tsconfig.json"),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      rewriteRelativeImportExtensions: true,
      rootDir: resolve("sdk"),
      outDir: join(work, "built"),
    },
    include: [],
    files: entries.map((entry) => resolve(entry)),
  };
  writeFileSync(join(work, "tsconfig.json"), JSON.stringify(config));
  run(process.execPath, ["node_modules/typescript/bin/tsc", "-p", join(work, "tsconfig.json")]);
}

function published(manifest: Manifest, all: Manifest[]): Manifest {
  const entry = (source: string) => {
    const path = source.replace(/\.tsx?$/, "");
    return { types: `${path}.d.ts`, default: `${path}.js` };
  };
  const exports = Object.fromEntries(Object.entries(manifest.exports).map(([name, source]) => [name, entry(source)]));
  const versions = new Map(all.map(({ name, version }) => [name, `^${version}`]));
  const dependencies = Object.entries(manifest.dependencies ?? {}).map(([name, range]) => [
    name,
    versions.get(name) ?? range,
  ]);
  return {
    ...manifest,
    exports: { ...exports, "./package.json": "./package.json" } as never,
    files: ["**/*.js", "**/*.d.ts"],
    ...(dependencies.length > 0 && { dependencies: Object.fromEntries(dependencies) }),
  };
}

function run(command: string, args: string[]): void {
  const { status } = spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed: see above`);
}
