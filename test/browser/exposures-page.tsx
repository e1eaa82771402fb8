/** In the page: applications in React and without, one at a time, and what their client has sent. */
import type { TelemetryEvent } from "@bunting/core/wire";
import { type BrowserClient, type BrowserOptions, type Context, createClient } from "@bunting/sdk/browser";
import { BuntingWebProvider } from "@bunting/sdk/openfeature-web";
import { BuntingProvider, useFlag, useFlags } from "@bunting/sdk/react";
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { Activity, type ReactNode, StrictMode, Suspense, startTransition, use, useState } from "react";
import { flushSync } from "react-dom";
import { createRoot, hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";

type Options = Omit<BrowserOptions, "fetch" | "logger">;

const body = (globalThis as unknown as { document: { body: { innerHTML: string; textContent: string } } }).document
  .body;
const container = body as unknown as Parameters<typeof createRoot>[0];
const sent: TelemetryEvent[] = [];
const problems: string[] = [];
const drawn: string[] = [];
let client: BrowserClient;
let root: Root;
/** Draws everything again, in whatever state the test puts it. */
let turn: (state: string) => void;
/** What suspended components wait for. */
let wait = Promise.withResolvers<void>();

const { error } = console;
console.error = (...said: unknown[]) => {
  problems.push(said.join(" "));
  error(...said);
};

const made = (options: Options) =>
  createClient({
    ...options,
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      if (url.includes("/events") && response.ok) sent.push(...JSON.parse(init.body!).events);
      return response;
    },
  });

function One({ flag, otherwise = "a" }: { flag: string; otherwise?: string }) {
  const value = useFlag(flag, otherwise);
  drawn.push(value);
  return <p id={flag}>{value}</p>;
}

/** Reads of all flags only one, a second one when clicked. */
function OneOfAll({ flag, later }: { flag: string; later: string }) {
  const flags = useFlags();
  return (
    <button id={flag} type="button" onClick={() => void drawn.push(String(flags[later]?.value))}>
      {String(flags[flag]?.value)}
    </button>
  );
}

function Inline() {
  return <p id="missing">{useFlag("missing", { rows: 1 }).rows}</p>;
}

function Waiting() {
  use(wait.promise);
  return <p id="arrived">arrived</p>;
}

type Scene = (props: { flags: string[]; state: string }) => ReactNode;
const scenes: Record<string, Scene> = {
  each: ({ flags }) => flags.map((flag) => <One key={flag} flag={flag} />),
  twice: ({ flags: [flag], state }) => [
    <p key="state">{state}</p>,
    <One key="one" flag={flag!} />,
    <One key="two" flag={flag!} />,
  ],
  all: ({ flags: [flag, later] }) => <OneOfAll flag={flag!} later={later ?? flag!} />,
  inline: ({ state }) => [<p key="state">{state}</p>, <Inline key="inline" />],
  /** What suspends beside the flag hides it, from the beginning or later. */
  suspended: ({ flags: [flag], state }) => (
    <Suspense fallback={<p id="fallback">one moment</p>}>
      <One flag={flag!} />
      {state === "waiting" && <Waiting />}
    </Suspense>
  ),
  /** Shows the flag only in the state "next", in which something else suspends. */
  next: ({ flags: [flag], state }) => (
    <Suspense>
      <p id="state">{state}</p>
      {state === "next" && <One flag={flag!} />}
      {state === "next" && <OneOfAll flag={flag!} later={flag!} />}
      {state === "next" && <Waiting />}
    </Suspense>
  ),
  hidden: ({ flags: [flag], state }) => (
    <Activity mode={state === "shown" ? "visible" : "hidden"}>
      <One flag={flag!} />
    </Activity>
  ),
};

function Application({ of, scene, flags }: { of: BrowserClient; scene: string; flags: string[] }) {
  const [state, setState] = useState(scene === "suspended" ? "waiting" : "first");
  turn = setState;
  const Drawn = scenes[scene]!;
  return (
    <StrictMode>
      <BuntingProvider client={of}>
        <Drawn flags={flags} state={state} />
      </BuntingProvider>
    </StrictMode>
  );
}

Object.assign(globalThis, {
  /** Draws a scene by React, with what there is. */
  async draw(options: Options, scene: string, flags: string[]) {
    client = made(options);
    root = createRoot(container);
    root.render(<Application of={client} scene={scene} flags={flags} />);
  },
  /** Takes over what a server has drawn with the bootstrap. */
  async hydrate(options: Options, flags: string[]) {
    const server = createClient({ ...options, offline: true, cache: false });
    body.innerHTML = renderToString(<Application of={server} scene="each" flags={flags} />);
    drawn.length = 0;
    client = made(options);
    root = hydrateRoot(container, <Application of={client} scene="each" flags={flags} />, {
      onRecoverableError: (error) => void problems.push(String(error)),
    });
  },
  /** Comes onto the page and goes before any effect that waits for the next task, or never comes. */
  async flash(options: Options, flags: string[], isShown: boolean) {
    client = made(options);
    root = createRoot(container);
    const application = <Application of={client} scene="each" flags={flags} />;
    if (isShown) flushSync(() => root.render(application));
    else root.render(application);
    root.unmount();
  },
  /** Without React: it draws, and again on each change. */
  async plain(options: Options, flag: string) {
    client = made(options);
    const draw = () => {
      body.innerHTML = `<p id="${flag}">${client.string(flag, "a")}</p>`;
    };
    draw();
    client.on("change", draw);
  },
  async openFeature(options: Options, flag: string) {
    client = made(options);
    await OpenFeature.setContext(options.context as never);
    await OpenFeature.setProviderAndWait(new BuntingWebProvider(client));
    const features = OpenFeature.getClient();
    const draw = () => {
      body.innerHTML = `<p id="${flag}">${features.getStringValue(flag, "a")}</p>`;
    };
    draw();
    features.addHandler(ProviderEvents.ConfigurationChanged, draw);
    features.addHandler(ProviderEvents.ContextChanged, draw);
  },
  openFeatureContext: (targetingKey: string) => OpenFeature.setContext({ targetingKey }),
  turn: async (state: string) => turn(state),
  turnInTransition: async (state: string) => startTransition(() => turn(state)),
  arrive: async () => wait.resolve(),
  async suspendAgain() {
    wait = Promise.withResolvers();
  },
  context: (context: Context) => client.setContext(context),
  /** Each of the users in turn; answers what each was shown, as the page has it. */
  async inTurn(users: string[], flag: string) {
    const shown: Record<string, string> = {};
    const { document } = globalThis as unknown as { document: { getElementById(id: string): { textContent: string } } };
    for (const targetingKey of users) {
      if (!(await client.setContext({ targetingKey }, { timeoutMs: 20_000 }))) throw new Error("no values");
      shown[targetingKey] = document.getElementById(flag).textContent;
    }
    await client.flush();
    return shown;
  },
  /** At the same moment; nothing waits for what is being sent. */
  async closeAndLeave() {
    void client.close();
    (globalThis as unknown as { location: string }).location = "/elsewhere";
  },
  /** After a task in which React has done what it had to. */
  async look() {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.flush();
    return { sent, problems, drawn, status: client.status() };
  },
  connected: async () => client.status().transport === "websocket" && client.status().connected,
});
