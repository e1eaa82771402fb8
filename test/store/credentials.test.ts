/** Look-ups of tokens and environments that many requests make at once: what they share, and what they must not. */

import { env } from "cloudflare:workers";
import { expect, onTestFinished, test } from "vitest";
import { sha256 } from "../../workers/platform/sha256.ts";
import { findEnvironment, findToken } from "../../workers/store/credentials.ts";
import { openDatabase } from "../../workers/store/database.ts";
import { as, newProject, newToken, root } from "../support/admin.ts";
import { calls, setFaults, withFaults } from "../support/faults.ts";

const admin = await newToken({ name: "admin" });
const faulty = openDatabase(withFaults(env).DB);
const real = openDatabase(env.DB);

async function createdToken() {
  const { body } = await root("POST", "/tokens", { name: "short-lived", role: "admin" });
  return { id: body.id as string, secret: body.token as string, hash: await sha256(body.token as string) };
}

test("requests that come at the same moment share one look-up", async () => {
  const { hash } = await createdToken();
  const before = calls.DB ?? 0;
  const found = await Promise.all(Array.from({ length: 20 }, () => findToken(faulty, env.KV, hash)));
  expect(found.map((token) => token?.name)).toEqual(Array(20).fill("short-lived"));
  expect((calls.DB ?? 0) - before).toBe(1);
});

test("a look-up whose request has ended is not D1's failure for those that shared it", async () => {
  const { hash } = await createdToken();
  onTestFinished(() => setFaults({}));
  // What the mirror says is told apart from what D1 says.
  const mirrored = await env.KV.get<object>(`token:${hash}`, "json");
  await env.KV.put(`token:${hash}`, JSON.stringify({ ...mirrored, name: "mirrored" }));
  setFaults({ DB: { mode: "hang", at: "api_tokens", when: "before" } });
  void findToken(faulty, env.KV, hash);
  const shared = await Promise.all(Array.from({ length: 5 }, () => findToken(faulty, env.KV, hash)));
  for (const token of shared) expect(token).not.toBeNull();
  expect((await findToken(faulty, env.KV, hash))?.name).toBe("short-lived");
});

test("who asks after a token was revoked or an environment made is not answered by a look-up from before (Q8)", async () => {
  const { id, secret, hash } = await createdToken();
  const project = await newProject(admin);
  onTestFinished(() => setFaults({}));
  setFaults({ DB: { mode: "delay", ms: 150, when: "after" } });
  const old = Promise.all([findToken(faulty, env.KV, hash), findEnvironment(faulty, env.KV, project, "staging")]);
  const made = await admin("POST", `/projects/${project}/environments`, { key: "staging" });
  const revoked = await admin("DELETE", `/tokens/${id}`);
  expect([made.status, revoked.status]).toEqual([201, 204]);
  const asked = [as(secret)("GET", "/projects"), admin("GET", `/projects/${project}/environments/staging`)];
  const [after, there] = await Promise.all([
    findToken(real, env.KV, hash),
    findEnvironment(real, env.KV, project, "staging"),
  ]);
  expect([after?.revokedAt, there?.environment]).toEqual([expect.any(Number), "staging"]);
  expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([401, 200]);
  await old;
});
