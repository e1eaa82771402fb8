/** Our provider for browsers where its client cannot do what it is asked; test/flows/openfeature-web.test.ts has the Worker. */
import { expect, test, vi } from "vitest";
import { createClient } from "./browser.ts";
import { BuntingWebProvider } from "./openfeature-web.ts";

test("a context that cannot be sent is an error, and the provider is ready again with the next one", async () => {
  const answer = async () => Response.json({ revision: 1, flags: {} });
  const quiet = { warn() {}, error() {} };
  const options = { clientKey: "bnt_cli_e_x", url: "http://flags.test", streams: [], cache: false } as const;
  const provider = new BuntingWebProvider(createClient({ ...options, events: false, fetch: answer, logger: quiet }));
  const ready = vi.fn();
  provider.events.addHandler("PROVIDER_READY" as never, ready);
  await provider.initialize({ targetingKey: "ada" });
  await new Promise((resolve) => setTimeout(resolve));
  const endless: { targetingKey: string; self?: object } = { targetingKey: "ben" };
  endless.self = endless;
  await expect(provider.onContextChange({}, endless as never)).rejects.toThrow();
  await provider.onContextChange({}, { targetingKey: "cem" });
  provider.resolveBooleanEvaluation("new-checkout", false);
  expect(ready).toHaveBeenCalled();
  await provider.onClose();
});
