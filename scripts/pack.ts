/**
 * `npm run pack [-- FOLDER]`: the published packages as tarballs in FOLDER (`packages`), ready for `npm install` and
 * `npm publish`. In the repository their `exports` point at the sources; what is packed is built from these, as ES modules
 * and as CommonJS (decision 0018).
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";

type Manifest = {
  name: string;
  version: string;
  exports: Record<string, string>;
  dependencies?: Record<string, string>;
  [field: string]: unknown;
};

const CORE = "sdk/core";
const packages = [CORE, "sdk/js"];
const formats = { esm: "module", cjs: "commonjs" } as const;
const destination = resolve(process.argv[2] ?? "packages");

// Inside the checkout, so that the compiler finds the types of packages.
mkdirSync(".bunting", { recursive: true });
const work = mkdtempSync(resolve(".bunting/pack-"));
try {
  const tarballs = packages.map(pack);
  const paths = tarballs.map((file) => join(relative(".", destination) || ".", file));
  console.log(`Packed ${paths.join(" and ")}.`);
  console.log("Applications want the SDK alone, which holds the engine. In theirs:");
  console.log(`\n  npm install ${join(destination, tarballs.at(-1)!)}\n`);
} finally {
  rmSync(work, { recursive: true });
}

/** The name of the tarball. */
function pack(folder: string): string {
  const manifest = manifestOf(folder);
  const built = join(work, basename(folder));
  for (const [format, type] of Object.entries(formats)) {
    const output = join(built, format);
    build(folder, Object.values(manifest.exports), output, type);
    pointAtCore(output);
    if (format === "cjs") writeFileSync(join(output, "package.json"), JSON.stringify({ type, sideEffects: false }));
  }
  cpSync("LICENSE", join(built, "LICENSE"));
  cpSync(join(folder, "README.md"), join(built, "README.md"));
  writeFileSync(join(built, "package.json"), JSON.stringify(published(folder, manifest), null, 2));
  mkdirSync(destination, { recursive: true });
  run("npm", ["pack", built, "--pack-destination", destination, "--loglevel=error"]);
  return `${manifest.name.slice(1).replace("/", "-")}-${manifest.version}.tgz`;
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
}

/** Only what the entries import: neither tests nor anything else that lies beside them. */
function build(folder: string, entries: string[], outDir: string, module: "module" | "commonjs"): void {
  const config = {
    extends: resolve("tsconfig.json"),
    compilerOptions: {
      noEmit: false,
      declaration: true,
      rewriteRelativeImportExtensions: true,
      module: module === "module" ? "esnext" : "commonjs",
      // In CommonJS `import` becomes `require`.
      verbatimModuleSyntax: module === "module",
      // What Node 20 has.
      lib: ["es2023", "es2024.string"],
      target: "es2022",
      // As sources: what is found as a dependency is not built.
      paths: {
        "@bunting/core": [resolve(CORE, "index.ts")],
        "@bunting/core/*": [resolve(CORE, "*.ts")],
      },
      rootDir: resolve("sdk"),
      outDir,
    },
    include: [],
    files: entries.map((entry) => resolve(folder, entry)),
  };
  writeFileSync(join(work, "tsconfig.json"), JSON.stringify(config));
  run(process.execPath, ["node_modules/typescript/bin/tsc", "-p", join(work, "tsconfig.json")]);
}

/** What was built imports the engine from beside it: an application installs one package. */
function pointAtCore(output: string): void {
  for (const file of readdirSync(output, { recursive: true, encoding: "utf8" })) {
    if (!/\.(js|d\.ts)$/.test(file)) continue;
    const text = readFileSync(join(output, file), "utf8");
    const pointed = text.replace(
      /\b(from |import |import\(|require\()"@bunting\/core(?:\/([a-z]+))?"/g,
      (_, before: string, entry = "index") => {
        const path = relative(dirname(file), join("core", `${entry}.js`)).replaceAll(sep, "/");
        return `${before}"${path.startsWith(".") ? path : `./${path}`}"`;
      },
    );
    if (pointed !== text) writeFileSync(join(output, file), pointed);
  }
}

function published(folder: string, manifest: Manifest): Manifest {
  const { "@bunting/core": _core, ...dependencies } = manifest.dependencies ?? {};
  const exports = Object.entries(manifest.exports).map(([name, source]) => {
    const path = join(basename(folder), source)
      .replaceAll(sep, "/")
      .replace(/\.tsx?$/, "");
    const of = (format: keyof typeof formats) => ({
      types: `./${format}/${path}.d.ts`,
      default: `./${format}/${path}.js`,
    });
    // `module-sync` is what Node requires *and* imports since 20.19: one instance for whoever does both.
    return [name, { "module-sync": of("esm"), import: of("esm"), require: of("cjs") }];
  });
  return {
    ...manifest,
    exports: { ...Object.fromEntries(exports), "./package.json": "./package.json" } as never,
    files: ["esm", "cjs"],
    dependencies,
  };
}

function run(command: string, args: string[]): void {
  const { status } = spawnSync(command, args, {
    stdio: "inherit",
    shell: process.platform === "win32",
  });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed: see above`);
}
