/** `?wait`: how long a write waits for the clients before it is answered. A kill waits a second unless told otherwise (kill-switch.ts). */
import type { Env } from "../../env.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import { type CompleteReceipt, type Delivery, receiptOf } from "./hub-client.ts";

/** An answer counts every socket, in the relays that are sending to them: of many clients it is asked for less often. */
const COUNTED_PER_MS = 20;

/** Asks at growing intervals until every client is accounted for or the time is out; then says what is known. */
export async function withReceipt(env: Env, name: EnvironmentName, done: Delivery, waitMs: number): Promise<Delivery> {
  if (waitMs === 0 || done.revision === undefined) return done;
  const end = Date.now() + waitMs;
  let known: CompleteReceipt | null = null;
  for (let pause = 5; ; pause = Math.min(500, Math.max(pause * 2, (known?.connected ?? 0) / COUNTED_PER_MS))) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause, end - Date.now())));
    known = await receiptOf(env, name, done.revision).catch(() => known);
    if (known !== null && known.connected <= known.applied + known.delivered + known.gone) break;
    if (Date.now() >= end) break;
  }
  return { ...done, receipt: known };
}
