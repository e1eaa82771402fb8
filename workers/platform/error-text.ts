/**
 * An error for the log: its name and message with those of its causes, but never a statement's text and parameters, which
 * hold what people search for and hashes of their tokens. Drizzle puts both into its message.
 */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error).slice(0, MAX_LENGTH);
  const texts: string[] = [];
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    texts.push(hasStatement(cause) ? "a statement failed" : `${cause.name}: ${cause.message}`);
  }
  return texts.join(" ← ").slice(0, MAX_LENGTH);
}

/** Where it happened, without the message that stands before it. */
export function errorStack(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return error.stack
    ?.split("\n")
    .filter((line) => /^\s+at /.test(line))
    .join("\n");
}

const MAX_LENGTH = 500;

const hasStatement = ({ message }: Error): boolean => message.startsWith("Failed query:");
