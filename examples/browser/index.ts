/** A page with flags: VITE_CLIENT_KEY=bnt_cli_… npx vite examples/browser, with `npm start` running. */
import { createClient } from "@bunting/sdk/browser";

/** The flags of this page: a misspelt key, or a value of another type, does not compile. */
type Flags = { "new-checkout": boolean };

const bunting = createClient<Flags>({
  clientKey: import.meta.env.VITE_CLIENT_KEY,
  url: import.meta.env.VITE_BUNTING_URL ?? "http://localhost:8787",
  name: "shop",
  // Whoever is not logged in has an id of this browser's, which the client keeps.
  context: { page: location.pathname },
});

const buy = document.querySelector<HTMLButtonElement>("#buy")!;
const logIn = document.querySelector<HTMLFormElement>("#log-in")!;

function draw(): void {
  buy.textContent = bunting.boolean("new-checkout", false) ? "Buy now" : "To the basket";
}

// A page that is drawn once need not be drawn again; without an answer in time it has the defaults.
await bunting.ready({ timeoutMs: 1_000 });
draw();
bunting.on("change", draw);

buy.addEventListener("click", () => bunting.track("bought"));
logIn.addEventListener("submit", (event) => {
  event.preventDefault();
  const user = String(new FormData(logIn).get("user"));
  // The values of before are shown until those for this user are here.
  void bunting.setContext({ targetingKey: user, page: location.pathname });
});
