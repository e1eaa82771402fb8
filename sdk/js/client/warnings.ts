/** Keys made up at run time must not fill the memory. */
const MAX_WARNINGS = 1_000;

export type Logger = { warn(message: string): void; error(message: string): void };

/** Warns of each thing once, however often it happens. */
export function warnOnce(logger: Pick<Logger, "warn">): (about: string, message: string) => void {
  const warned = new Set<string>();
  return (about, message) => {
    if (warned.has(about) || warned.size >= MAX_WARNINGS) return;
    warned.add(about);
    logger.warn(`Bunting: ${message}`);
  };
}
