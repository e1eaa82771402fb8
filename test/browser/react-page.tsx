/** In the page: an application that counts how often each of its components is drawn. */
import { type BrowserClient, type BrowserOptions, createClient } from "@bunting/sdk/browser";
import { BuntingProvider, useBunting, useFlag, useFlags } from "@bunting/sdk/react";
import { Suspense } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";

type Mode = "fresh" | "hydrated" | "suspended";
const drawn: Record<string, number> = {};
const problems: string[] = [];
let client: BrowserClient;

const count = (name: string) => {
  drawn[name] = (drawn[name] ?? 0) + 1;
};

function One({ flag }: { flag: string }) {
  count(flag);
  return <p id={flag}>{useFlag(flag, "default")}</p>;
}

function All() {
  count("all");
  const { context } = useBunting();
  return <p id="all">{`${context.targetingKey} ${Object.keys(useFlags()).sort().join(" ")}`}</p>;
}

function Application({ of, flags, suspense = false }: { of: BrowserClient; flags: string[]; suspense?: boolean }) {
  return (
    <BuntingProvider client={of} suspense={suspense}>
      <Suspense fallback={<p id="waiting">waiting</p>}>
        {flags.map((flag) => (
          <One key={flag} flag={flag} />
        ))}
        <All />
      </Suspense>
    </BuntingProvider>
  );
}

Object.assign(globalThis, {
  /** What a server would send for it, and an element that holds that. */
  start(options: BrowserOptions, flags: string[], mode: Mode) {
    const page = globalThis as unknown as { document: { body: Element } };
    type Element = { innerHTML: string };
    const root = page.document.body as unknown as Parameters<typeof createRoot>[0] & Element;
    const report = (error: unknown) => void problems.push(String(error));
    const { error } = console;
    console.error = (...said: unknown[]) => {
      problems.push(said.join(" "));
      error(...said);
    };
    if (mode === "hydrated") {
      const server = createClient({ ...options, offline: true, cache: false });
      root.innerHTML = renderToString(<Application of={server} flags={flags} />);
      for (const name in drawn) delete drawn[name];
      if (server.status().events.buffered > 0) problems.push("a server counts what it draws");
    }
    client = createClient(options);
    if (mode === "hydrated")
      hydrateRoot(root, <Application of={client} flags={flags} />, { onRecoverableError: report });
    else createRoot(root).render(<Application of={client} flags={flags} suspense={mode === "suspended"} />);
    return root.innerHTML;
  },
  look: () => ({ drawn, problems, buffered: client.status().events.buffered }),
  context: (targetingKey: string) => client.setContext({ targetingKey }),
});
