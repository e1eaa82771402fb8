/**
 * What a page or a Worker loads: `npm run bench -- bundle`. Each entry and each peer's own one in the same way, by esbuild:
 * bundled, minified, for browsers of 2022, with gzip -9.
 */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { installPeers } from "./peers/install.ts";

const PEERS = "bench/peers";

type Bundle = {
  name: string;
  code: string;
  from: string;
  platform?: "browser" | "neutral" | "node";
  goal?: number;
  goalMore?: number;
};

const ours: Bundle[] = [
  {
    name: "`@bunting/sdk/browser`, WebSocket and polling",
    from: ".",
    code: `export * from "@bunting/sdk/browser"`,
    goal: 4.0,
  },
  {
    name: "… with server-sent events as well",
    from: ".",
    code: `export * from "@bunting/sdk/browser"; export * from "@bunting/sdk/sse"`,
  },
  {
    name: "… with `@bunting/sdk/react` (React itself left out)",
    from: ".",
    code: `export * from "@bunting/sdk/browser"; export * from "@bunting/sdk/react"`,
    goalMore: 0.6,
  },
  {
    name: "`@bunting/sdk/workers`, evaluation included",
    from: ".",
    code: `export * from "@bunting/sdk/workers"`,
    goal: 10,
  },
  {
    name: "`@bunting/sdk/node`, evaluation included",
    from: ".",
    code: `export * from "@bunting/sdk/node"`,
    platform: "node",
  },
  { name: "`@bunting/core`: evaluation alone", from: ".", code: `export { compile } from "@bunting/core"` },
];

const theirs: Bundle[] = [
  ["launchdarkly-js-client-sdk", "launchdarkly"],
  ["unleash-proxy-client (polls; no streams)", "unleash"],
  ["@configcat/sdk, browser (polls; evaluates)", "configcat"],
  ["@growthbook/growthbook (evaluates)", "growthbook"],
  ["@openfeature/web-sdk with @openfeature/ofrep-web-provider", "openfeature"],
].map(([name, file]) => ({ name: name!, from: PEERS, code: `export * from "./pages/${file}.ts"` }));

installPeers();

async function sizes({ code, from, platform = "browser" }: Bundle): Promise<{ minified: number; gzipped: number }> {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: from },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform,
    // `ws`: what /node loads where there is no WebSocket.
    external: ["react", "ws", "node:*", "cloudflare:*"],
    write: false,
    logLevel: "error",
  });
  const { contents } = outputFiles[0]!;
  return { minified: contents.byteLength, gzipped: gzipSync(contents, { level: 9 }).byteLength };
}

const kilobytes = (bytes: number) => (bytes / 1_024).toFixed(1);

console.log("| | min, KB | min+gzip, KB | goal |\n|---|---|---|---|");
let browser: number | undefined;
for (const bundle of [...ours, ...theirs]) {
  const { minified, gzipped } = await sizes(bundle);
  browser ??= gzipped;
  const limit = bundle.goalMore === undefined ? bundle.goal : browser / 1_024 + bundle.goalMore;
  const said = bundle.goalMore === undefined ? bundle.goal?.toFixed(1) : `+${bundle.goalMore}`;
  const goal = limit === undefined ? "" : `${said}: ${gzipped <= limit * 1_024 ? "**met**" : "missed"}`;
  const more = bundle.name.startsWith("…") ? ` (+${kilobytes(gzipped - browser)})` : "";
  console.log(`| ${bundle.name} | ${kilobytes(minified)} | ${kilobytes(gzipped)}${more} | ${goal} |`);
}
