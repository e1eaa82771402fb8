/** The Chromium or Chrome that this machine has. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
const PLACES = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"];

/** @throws Error that says how to install one. Tests without a browser fail, since a skipped test proves nothing. */
function findChromium(): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const candidates = [
    process.env.CHROME_PATH ?? "",
    ...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))),
    ...PLACES,
  ];
  const found = candidates.find((path) => path !== "" && existsSync(path));
  if (found !== undefined) return found;
  throw new Error(
    "These tests need Chromium or Chrome. Install one (Debian, Ubuntu: apt-get install chromium; macOS: brew install --cask chromium), or set CHROME_PATH to one that is there.",
  );
}

export const launchChromium = (): Promise<Browser> =>
  chromium.launch({
    executablePath: findChromium(),
    headless: true,
    // Playwright disables the back/forward cache, which users have.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
