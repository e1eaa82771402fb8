import type { BrowserContext, Page } from "playwright-core";
import type { PageServer } from "./page-server.ts";
import type { RemoteVisitor } from "./visitor.ts";

/** A visitor in a page. Its methods run there. */
export async function pageVisitor(
  context: BrowserContext,
  pages: PageServer,
): Promise<{ page: Page; visitor: RemoteVisitor }> {
  const page = await context.newPage();
  await page.goto(`${pages.origin}/visitor`);
  await page.waitForFunction(() => "visitor" in globalThis);
  const visitor = new Proxy({} as RemoteVisitor, {
    get: (_, name: keyof RemoteVisitor) =>
      name === ("then" as string)
        ? undefined
        : (...args: unknown[]) =>
            page.evaluate(
              ([method, given]) =>
                (globalThis as unknown as { visitor: Record<string, (...args: unknown[]) => unknown> }).visitor[
                  method as string
                ]!(...(given as unknown[])),
              [name, args] as const,
            ),
  });
  return { page, visitor };
}
