// npm run watch -- new-checkout [--environment production] [--user user-42]
// Shows one flag as a running application sees it: its value for a user, every change with its age, and the share of
// users on each variation. It evaluates from memory, so that it goes on answering while the server is away.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { type Change, type Client, createClient, type Decision } from "@bunting/sdk/node";

const SAMPLE_USERS = 1_000;
const USAGE = "usage: npm run watch -- <flag> [--environment production] [--user user-42]";

type Target = { flag: string; user: string; environment: string; url: string; serverKey: string };

/** Where to connect and what to show, or the error in words. */
function readTarget(
  args: string[],
  environment: Record<string, string | undefined>,
  devFile: string | null,
): Target | { error: string } {
  let parsed: { values: { environment?: string; user?: string }; positionals: string[] };
  try {
    const options = { environment: { type: "string" }, user: { type: "string" } } as const;
    parsed = parseArgs({ args, allowPositionals: true, options });
  } catch (error) {
    return { error: `${(error as Error).message}\n${USAGE}` };
  }
  const [flag, ...rest] = parsed.positionals;
  if (flag === undefined || rest.length > 0) return { error: `name one flag\n${USAGE}` };
  const name = parsed.values.environment ?? "production";
  const what = { flag, user: parsed.values.user ?? "user-42", environment: name };
  const { BUNTING_URL: url, BUNTING_SERVER_KEY: serverKey } = environment;
  if (url && serverKey)
    return { ...what, environment: parsed.values.environment ?? "BUNTING_SERVER_KEY", url, serverKey };
  if (url || serverKey) return { error: "set both BUNTING_URL and BUNTING_SERVER_KEY, or neither" };
  if (devFile === null) {
    return { error: "there is no .bunting/dev.json: run npm start first, or set BUNTING_URL and BUNTING_SERVER_KEY" };
  }
  return readDevFile(devFile, what);
}

function readDevFile(
  text: string,
  what: { flag: string; user: string; environment: string },
): Target | { error: string } {
  let dev: { url?: string; environments?: Record<string, { serverKey?: string }> };
  try {
    dev = JSON.parse(text);
  } catch {
    return { error: ".bunting/dev.json is not JSON: `npm start -- --reset` begins again" };
  }
  const environments = dev.environments ?? {};
  const serverKey = Object.hasOwn(environments, what.environment)
    ? environments[what.environment]?.serverKey
    : undefined;
  if (!dev.url || !serverKey) {
    const known = Object.keys(environments).join(", ") || "none";
    return { error: `.bunting/dev.json has no environment "${what.environment}"; it has: ${known}` };
  }
  return { ...what, url: dev.url, serverKey };
}

/** `on 50.3 %  off 49.7 %`: over sample users, so within a point or two of the truth. */
function shares(decide: (user: string) => Decision, users = SAMPLE_USERS): string {
  const counts = new Map<string, number>();
  for (let n = 0; n < users; n++) {
    const variation = decide(`user-${n}`).variation ?? "default";
    counts.set(variation, (counts.get(variation) ?? 0) + 1);
  }
  return [...counts]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([variation, count]) => `${variation} ${((count * 100) / users).toFixed(1)} %`)
    .join("  ");
}

/** What one flag looks like at a moment. */
type View = { decision: Decision; shares: string };

/** Says in a word what happened to a flag, where there is a word. */
function headline(before: Decision | null, now: Decision): string {
  if (now.errorCode === "FLAG_NOT_FOUND") return "DELETED  ";
  if (now.reason === "KILLED" && before?.reason !== "KILLED") return "KILLED  ";
  return before?.reason === "KILLED" && now.reason !== "KILLED" ? "RESTORED  " : "";
}

function line(target: Target, before: View | null, now: View, revision: number | null, age: string): string {
  const { decision } = now;
  const outcome = `${target.user} → ${JSON.stringify(decision.value)} (${decision.reason})`;
  return `${headline(before?.decision ?? null, decision)}${outcome}  revision ${revision}${age}   ${now.shares}`;
}

const ageOf = (change: Change): string =>
  change.ageMs === null ? "  age unknown (fetched)" : `  age ${change.ageMs} ms`;

function watch(target: Target): void {
  const print = (text: string) => console.log(`${clockTime(new Date())}  ${target.flag}  ${text}`);
  let client: Client;
  try {
    client = createClient({
      serverKey: target.serverKey,
      url: target.url,
      name: "watch",
      // Watching must not show up in the flag's own statistics.
      events: false,
      logger: { warn: () => {}, error: (message) => print(message) },
    });
  } catch (error) {
    // Says in words what is wrong with the key or the address.
    console.error((error as Error).message);
    process.exitCode = 1;
    return;
  }
  const decide = (user: string) => client.details(target.flag, null, { targetingKey: user });
  const look = (): View => ({ decision: decide(target.user), shares: shares(decide) });
  const stop = (code: number) => {
    process.exitCode = code;
    void client.close().then(() => process.exit());
  };
  process.once("SIGINT", () => stop(0));
  process.once("SIGTERM", () => stop(0));

  let shown: View | null = null;
  client.on("ready", ({ revision }) => {
    const known = Object.keys(client.all());
    if (!known.includes(target.flag)) {
      console.error(
        `there is no flag "${target.flag}" in ${target.environment}; it has: ${known.join(", ") || "none"}`,
      );
      stop(1);
      return;
    }
    shown = look();
    print(line(target, null, shown, revision, ""));
  });
  client.on("change", (change) => {
    const now = look();
    // A prerequisite or a segment can change what a flag answers without touching the flag.
    const changed = change.flags.includes(target.flag) || JSON.stringify(now) !== JSON.stringify(shown);
    if (changed) print(line(target, shown, now, change.revision, ageOf(change)));
    shown = now;
  });
  client.on("error", ({ code }) => {
    if (code !== "REFUSED" || shown !== null) return;
    console.error("the server key is not valid there: run npm start again, or check BUNTING_SERVER_KEY");
    stop(1);
  });
  let word = "connected";
  client.on("connected", ({ transport }) => {
    print(`${word} by ${transport}`);
    word = "reconnected";
  });
  client.on("disconnected", ({ reason }) => {
    const { decision } = look();
    print(
      `disconnected (${reason}); from memory: ${target.user} → ${JSON.stringify(decision.value)} (${decision.reason})`,
    );
  });
  client.on("stale", ({ forMs }) =>
    print(`not verified for ${Math.round(forMs / 1000)} s; still evaluating from memory`),
  );
  void client.ready({ timeoutMs: 3_000 }).then((ready) => {
    if (!ready && process.exitCode === undefined) print(`waiting for ${target.url}: is npm start running?`);
  });
  // The client's own timers hold no process: while nothing is connected, this does.
  setInterval(() => {}, 60_000);
}

const clockTime = (at: Date): string =>
  `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;

function readDev(): string | null {
  try {
    return readFileSync(join(import.meta.dirname, "..", ".bunting", "dev.json"), "utf8");
  } catch {
    return null;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const target = readTarget(process.argv.slice(2), process.env, readDev());
  if ("error" in target) {
    console.error(target.error);
    process.exitCode = 1;
  } else watch(target);
}
