/** A page in React with flags: VITE_CLIENT_KEY=bnt_cli_… npx vite examples/react, with `npm start` running. */
import { createClient } from "@bunting/sdk/browser";
import { BuntingProvider, useBunting, useFlag } from "@bunting/sdk/react";
import { type FormEvent, StrictMode, Suspense } from "react";
import { createRoot } from "react-dom/client";

const bunting = createClient({
  clientKey: import.meta.env.VITE_CLIENT_KEY,
  url: import.meta.env.VITE_BUNTING_URL ?? "http://localhost:8787",
  name: "shop",
});

/** Drawn again when this flag changes, and not when another does. */
function Buy() {
  const isNew = useFlag("new-checkout", false);
  const client = useBunting();
  return (
    <button id="buy" type="button" onClick={() => client.track("bought")}>
      {isNew ? "Buy now" : "To the basket"}
    </button>
  );
}

function LogIn() {
  const client = useBunting();
  const logIn = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    // The values of before are shown until those for this user are here.
    void client.setContext({ targetingKey: String(new FormData(event.currentTarget).get("user")) });
  };
  return (
    <form id="log-in" onSubmit={logIn}>
      <label>
        Name <input name="user" required />
      </label>
      <button type="submit">Log in</button>
    </form>
  );
}

createRoot(document.querySelector("#shop")!).render(
  <StrictMode>
    <BuntingProvider client={bunting} suspense>
      <Suspense fallback={<p>One moment …</p>}>
        <Buy />
        <LogIn />
      </Suspense>
    </BuntingProvider>
  </StrictMode>,
);
