import { parseAttribute } from "../evaluate/attributes.ts";
import { isKey } from "../keys.ts";
import { cycleThrough, type Documents, find, type Kind } from "../references/graph.ts";
import type { Flag } from "../ruleset.ts";

/** One validation error or warning of a document. */
export type Problem = {
  /** Only errors are reasons not to save. */
  readonly severity: "error" | "warning";
  /** RFC 6901, into the document. */
  readonly pointer: string;
  /** Stable, in kebab case. */
  readonly code: string;
  /** Says what is wrong and what to do. */
  readonly message: string;
};

export type Fields = Record<string, unknown>;
export type Path = readonly (string | number)[];

/** Collects the problems of one document, and knows what others there are. */
export class Report {
  readonly problems: Problem[] = [];
  readonly documents: Documents;
  readonly #kind: Kind;
  readonly #key: string;

  constructor(documents: Documents, kind: Kind, key: string) {
    this.documents = documents;
    this.#kind = kind;
    this.#key = key;
  }

  add(path: Path, code: string, message: string): void {
    this.problems.push({ severity: "error", pointer: toPointer(path), code, message });
  }

  warn(path: Path, code: string, message: string): void {
    this.problems.push({ severity: "warning", pointer: toPointer(path), code, message });
  }

  /** The object at a place, or a problem. */
  object(value: unknown, path: Path): Fields | undefined {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
    this.add(path, "not-an-object", "This must be an object.");
    return undefined;
  }

  array(value: unknown, path: Path): readonly unknown[] {
    if (Array.isArray(value)) return value;
    this.add(path, "not-an-array", "This must be an array.");
    return [];
  }

  boolean(value: unknown, path: Path): void {
    if (value !== undefined && typeof value !== "boolean")
      this.add(path, "not-a-boolean", "This must be true or false.");
  }

  /** At least one text, all of them texts; answers those that are. */
  texts(value: unknown, path: Path, { allowEmpty = false } = {}): [index: number, text: string][] {
    const texts: [number, string][] = [];
    const values = this.array(value, path);
    if (!allowEmpty && Array.isArray(value) && values.length === 0) {
      this.add(
        path,
        "values-empty",
        "This list is empty and would match nothing: add a value, or remove what it belongs to.",
      );
    }
    for (const [index, text] of values.entries()) {
      if (typeof text === "string") texts.push([index, text]);
      else this.add([...path, index], "not-a-string", "This must be a string: lists are compared with strings.");
    }
    return texts;
  }

  key(value: unknown, path: Path): void {
    if (isKey(value)) return;
    this.add(
      path,
      "key-invalid",
      `${show(value)} is not a key: use 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -, and none of . .. __proto__ constructor prototype.`,
    );
  }

  attribute(value: unknown, path: Path): void {
    if (parseAttribute(value) !== undefined) return;
    this.add(
      path,
      "attribute-invalid",
      `${show(value)} does not name an attribute: use a name, or a path like /org/plan whose steps are not empty, with ~1 for / and ~0 for ~.`,
    );
  }

  /** A flag that a condition or a prerequisite names, with the variations that will do. */
  requirement(flag: unknown, variations: unknown, path: Path): void {
    const wanted = this.texts(variations, [...path, "variations"]);
    if (typeof flag !== "string") {
      this.add([...path, "flag"], "not-a-string", "This must be the key of a flag.");
      return;
    }
    const other = find(this.documents, "flag", flag);
    if (other === undefined) {
      this.add(
        [...path, "flag"],
        "flag-not-found",
        `There is no flag ${show(flag)} here: create it first, or name another.`,
      );
      return;
    }
    const existing = variationKeys(other as Flag);
    for (const [index, variation] of wanted) {
      if (!existing.has(variation)) {
        const known = [...existing].join(", ");
        this.add(
          [...path, "variations", index],
          "variation-not-found",
          `Flag ${show(flag)} has no variation ${show(variation)}: it has ${known}.`,
        );
      }
    }
    this.#acyclic("flag", flag, [...path, "flag"]);
  }

  segment(key: string, path: Path): void {
    if (find(this.documents, "segment", key) === undefined) {
      this.add(path, "segment-not-found", `There is no segment ${show(key)} here: create it first, or name another.`);
    } else {
      this.#acyclic("segment", key, path);
    }
  }

  #acyclic(kind: Kind, key: string, path: Path): void {
    const cycle = cycleThrough({ kind: this.#kind, key: this.#key }, { kind, key }, this.documents);
    if (cycle === undefined) return;
    this.add(path, "cycle", `This closes the cycle ${cycle.join(" → ")}: remove one of these references.`);
  }
}

function variationKeys(flag: Flag): ReadonlySet<unknown> {
  return new Set(Array.isArray(flag.variations) ? flag.variations.map((variation) => variation?.key) : []);
}

function toPointer(path: Path): string {
  return path.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/** A value as JSON, short enough for a message. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
