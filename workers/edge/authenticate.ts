/** SDK keys: checked against what the environment's hub has published, in memory, without asking a database. */
import type { Context } from "hono";
import type { Env } from "../env.ts";
import { ApiError, forbidden, unauthenticated, unavailable } from "../problem.ts";
import type { KeyGrant } from "../store/changes.ts";
import { sha256 } from "../store/credentials.ts";
import type { KeyKind } from "../store/schema.ts";
import { EARLY_MS, FRESH_MS, type IsolateRuleset, isolateRuleset, knowsKey, type Visit } from "./isolate-ruleset.ts";
import { limitReader, noteStranger, refuseStranger } from "./read-limit.ts";

type ClientName = { sdk: string; instance: string; name: string };

export type Caller = {
  environmentId: string;
  keyHash: string;
  grant: KeyGrant;
  ruleset: IsolateRuleset;
  client: ClientName;
  visit: Visit;
};

const KEY = /^bnt_(srv|cli)_([0-9a-z]{20})_([0-9a-z]{16,64})$/;

export async function authenticate(c: Context<{ Bindings: Env }>, ...kinds: KeyKind[]): Promise<Caller> {
  const key = presentedKey(c.req.raw);
  const [, prefix, environment] = KEY.exec(key) ?? [];
  if (prefix === undefined || environment === undefined) throw unauthenticated("This is not an SDK key of Bunting.");
  const kind: KeyKind = prefix === "srv" ? "server" : "client";
  if (!kinds.includes(kind)) throw forbidden(`This route takes a ${kinds.join(" or a ")} key.`);

  const visit: Visit = { env: c.env, ctx: c.executionCtx, cf: c.req.raw.cf as Visit["cf"] };
  const address = c.req.header("cf-connecting-ip") ?? "";
  const keyHash = await sha256(key);
  const atLeast = Number(c.req.query("revision") ?? 0);
  const environmentId = `env_${environment}`;
  // A good key passes whatever others behind the same address do.
  if (!knowsKey(environmentId, keyHash)) refuseStranger(address);
  const good = ({ keys }: IsolateRuleset) => Object.hasOwn(keys, keyHash);
  const look = () =>
    isolateRuleset(visit, environmentId, (ruleset) => {
      if (!good(ruleset)) return EARLY_MS;
      return atLeast > ruleset.evaluator.revision ? -1 : FRESH_MS;
    }).catch((error: unknown) => {
      console.warn(JSON.stringify({ level: "warn", message: "no ruleset", environmentId, error: String(error) }));
      throw unavailable("This environment cannot be read at the moment.", 1);
    });
  let ruleset = await look();
  if (ruleset !== null && !good(ruleset)) {
    // A key made a moment ago may still be on its way here, and an SDK takes a refusal for final.
    await new Promise((resolve) => setTimeout(resolve, EARLY_MS));
    ruleset = await look();
  }
  const grant = ruleset !== null && Object.hasOwn(ruleset.keys, keyHash) ? ruleset.keys[keyHash] : undefined;
  if (ruleset !== null && grant === undefined && Date.now() - ruleset.checkedAt > FRESH_MS) {
    // A new key, perhaps, and a relay that does not answer: an SDK takes a refusal for final, and this is none.
    throw unavailable("This SDK key cannot be checked at the moment.", 1);
  }
  if (ruleset === null || grant === undefined) {
    noteStranger(address);
    throw unauthenticated("This SDK key is unknown or has been revoked.");
  }
  if (grant.expiresAt !== null && grant.expiresAt <= Date.now()) throw unauthenticated("This SDK key has expired.");
  checkOrigin(c.req.raw, grant);
  const client = clientName(c.req.raw);
  await limitReader(c.env, keyHash, client.instance || address);
  return { environmentId, keyHash, grant, ruleset, client, visit };
}

function presentedKey(request: Request): string {
  const bearer = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const header = bearer ?? request.headers.get("x-api-key");
  if (header !== null && header !== undefined) return header;
  // EventSource and WebSocket of browsers cannot set headers, so a client key may be in the query; a secret never.
  const query = new URL(request.url).searchParams.get("key");
  if (query?.startsWith("bnt_srv_")) {
    throw new ApiError(401, "key-in-url", "A server key must not be in a URL. Send it as Authorization: Bearer.");
  }
  if (query === null) throw unauthenticated("Send an SDK key as Authorization: Bearer, or as X-API-Key.");
  return query;
}

function checkOrigin(request: Request, grant: KeyGrant): void {
  const origin = request.headers.get("origin");
  if (grant.kind === "client" && grant.origins.length > 0 && origin !== null && !grant.origins.includes(origin)) {
    throw forbidden("This client key may not be used from this origin. Add the origin to the key, or use another key.");
  }
}

/** `<sdk>/<version>;instance=<uuid>;name=<app>`, from a stranger: cut to size, never trusted. */
function clientName(request: Request): ClientName {
  const text = request.headers.get("x-bunting-client") ?? new URL(request.url).searchParams.get("client") ?? "";
  const [sdk = "", ...parameters] = text.slice(0, 512).split(";");
  const fields = new Map(parameters.map((parameter) => parameter.split("=", 2) as [string, string | undefined]));
  const clean = (value: string | undefined) => (value ?? "").replace(/[^\w./@:+ -]/g, "").slice(0, 128);
  return { sdk: clean(sdk) || "unknown", instance: clean(fields.get("instance")), name: clean(fields.get("name")) };
}
