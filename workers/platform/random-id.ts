/** Ids and texts that nobody can guess. */

/** Random and unguessable, lower-case letters and digits only: it also appears inside keys, between underscores. */
export function newId(prefix: string): string {
  return `${prefix}_${randomText(20)}`;
}

export function randomText(length: number): string {
  const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz";
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length * 2))) {
      // 252 is the largest multiple of 36 in a byte: beyond it the first letters would be likelier.
      if (byte < 252 && text.length < length) text += alphabet[byte % 36];
    }
  }
  return text;
}
