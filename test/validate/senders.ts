/** Who asks: each has one request under way at most, so that what it is answered has an order. */
import type { Acknowledged } from "./invariants.ts";
import type { Answer, Ask } from "./requests.ts";

export type Kind = "ruleset poll" | "flag poll" | "management read" | "write" | "kill";

/** `next` settles with the status when the answer is there; it never rejects. */
export type Sender = { kind: Kind; next(): Promise<number> };

export type Place = {
  ask: Ask;
  token: string;
  serverKey: string;
  clientKey: string;
  flags: string[];
  /** `/projects/…/flags` */
  path: string;
};

/** What all senders have found wrong and what they were answered. */
export class Logbook implements Acknowledged {
  readonly writes: Acknowledged["writes"] = [];
  readonly kills: Acknowledged["kills"] = [];
  readonly violations: string[] = [];
  /** Set while parts of the system are being killed: only then may an answer be missing. */
  mayBeLost = false;

  /** A server that cannot do something now says so, and when to come back. Anything else is a mistake of ours or a bug. */
  check(what: string, { status, headers, text }: Answer): boolean {
    if (status >= 200 && status < 400) return true;
    const refusal = (status === 503 || status === 429) && headers["retry-after"] !== undefined;
    const lost = status === 0 && this.mayBeLost;
    if (!refusal && !lost && this.violations.length < 50)
      this.violations.push(`${what} was answered ${status} ${text.slice(0, 300)}`);
    return false;
  }
}

/** Polls the whole ruleset with its ETag, as a backend without streams does. */
export function rulesetPoller({ ask, serverKey }: Place, log: Logbook, number: number): Sender {
  return poller("ruleset poll", log, (etag) =>
    ask("GET", "/sdk/v1/ruleset", {
      authorization: `Bearer ${serverKey}`,
      "x-bunting-client": `validate/1;instance=ruleset-${number}`,
      ...(etag !== undefined && { "if-none-match": etag }),
    }),
  );
}

/** Polls the values for one user with their ETag and a client key, as a browser without streams does. */
export function flagPoller({ ask, clientKey }: Place, log: Logbook, number: number): Sender {
  return poller("flag poll", log, (etag) =>
    ask(
      "POST",
      "/client/v1/flags",
      {
        authorization: `Bearer ${clientKey}`,
        "x-bunting-client": `validate/1;instance=flag-${number}`,
        ...(etag !== undefined && { "if-none-match": etag }),
      },
      { context: { targetingKey: `user-${number}` } },
    ),
  );
}

/** An isolate never goes back: the revision in the body tells. */
function poller(kind: Kind, log: Logbook, ask: (etag: string | undefined) => Promise<Answer>): Sender {
  let etag: string | undefined;
  let newest = 0;
  const next = async () => {
    const answer = await ask(etag);
    if (!log.check(kind, answer) || answer.status === 304) return answer.status;
    etag = answer.headers.etag;
    const { revision } = JSON.parse(answer.text) as { revision: number };
    if (revision < newest && !log.mayBeLost) log.violations.push(`${kind} went from ${newest} back to ${revision}`);
    newest = revision;
    return answer.status;
  };
  return { kind, next };
}

export function managementReader({ ask, token, path, flags }: Place, log: Logbook, number: number): Sender {
  const paths = [
    `${path}/${flags[number % flags.length]}/environments/production`,
    path,
    `${path}/${flags[number % flags.length]}`,
    "/audit?limit=20",
  ];
  let turn = number;
  const next = async () => {
    const answer = await ask("GET", `/api/v1${paths[turn++ % paths.length]}`, { authorization: `Bearer ${token}` });
    log.check("management read", answer);
    return answer.status;
  };
  return { kind: "management read", next };
}

/** Writes its flag again and again, each time with the next number; what was not answered is sent again under the same key. */
export function writer({ ask, token, path }: Place, log: Logbook, flag: string): Sender {
  let sequence = 1;
  const next = async () => {
    const rule = { id: `w${sequence}`, conditions: [], serve: { variation: sequence % 2 === 0 ? "on" : "off" } };
    const headers = { authorization: `Bearer ${token}`, "idempotency-key": `${flag}-${sequence}` };
    const answer = await ask("PATCH", `/api/v1${path}/${flag}/environments/production`, headers, { rules: [rule] });
    if (!log.check(`write ${sequence} of ${flag}`, answer)) return answer.status;
    const { revision = null } = JSON.parse(answer.text) as { revision?: number };
    const version = Number(/^"v(\d+)"$/.exec(answer.headers.etag ?? "")?.[1]);
    log.writes.push({ flag, sequence, version, revision });
    sequence += 1;
    return answer.status;
  };
  return { kind: "write", next };
}

/** Kills its flag and restores it, in turn. */
export function switcher({ ask, token, path }: Place, log: Logbook, flag: string): Sender {
  let decision = 1;
  const next = async () => {
    const action = decision % 2 === 1 ? "kill" : "restore";
    const headers = { authorization: `Bearer ${token}`, "idempotency-key": `${flag}-decision-${decision}` };
    const at = `/api/v1${path}/${flag}/environments/production/${action}`;
    const answer = await ask("POST", at, headers, { reason: `decision ${decision}` });
    if (!log.check(`${action} of ${flag}`, answer)) return answer.status;
    const { revision } = JSON.parse(answer.text) as { revision: number };
    log.kills.push({ flag, killed: action === "kill", revision });
    decision += 1;
    return answer.status;
  };
  return { kind: "kill", next };
}
