/** Checks every answer of the management API against the OpenAPI document: what is not documented is an error. */
import { type OutputUnit, type Schema, Validator } from "@cfworker/json-schema";

type Json = Record<string, unknown>;
type Response = { content?: Record<string, { schema?: Json }>; headers?: Json };
type Operation = { operationId: string; responses: Record<string, Response> };
export type Document = { paths: Record<string, Record<string, Operation>>; components: Json };

type Answered = { status: number; headers: Headers; text: string };

export class Contract {
  readonly document: Document;
  readonly #operations: { method: string; pattern: RegExp; operation: Operation; parameters: number; isOne: boolean }[];
  readonly #validators = new Map<object, Validator>();

  constructor(document: Document) {
    this.document = document;
    const all = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({
        method: method.toUpperCase(),
        pattern: new RegExp(`^${path.replace(/[.]/g, "\\.").replace(/\{[^}]+\}/g, "[^/]+")}$`),
        operation,
        parameters: path.split("{").length,
        isOne: path.endsWith("}") && !path.endsWith("/{member}"),
      })),
    );
    // Paths with fewer parameters go first: "/flags/bulk" is not the flag "bulk".
    this.#operations = all.sort((one, other) => one.parameters - other.parameters);
  }

  /** @throws Error that names what is not documented, with the answer. */
  check(method: string, path: string, answer: Answered): void {
    const place = path.replace(/\?.*$/s, "").replace(/\/$/, "");
    const there = this.#operations.filter((one) => one.pattern.test(place));
    const found = there.find((one) => one.method === method && one.parameters === there[0]?.parameters);
    const type = answer.headers.get("content-type")?.replace(/;.*$/, "") ?? "";
    const summary = `${method} ${place} answered ${answer.status} ${type} ${answer.text.slice(0, 300)}`;
    if (answer.headers.get("x-correlation-id") === null) throw new Error(`No X-Correlation-Id: ${summary}`);
    if (found === undefined) {
      // Nothing is documented there: the only valid answer is a refusal with a problem document.
      if (![401, 403, 404, 405, 429, 503].includes(answer.status)) throw new Error(`Undocumented: ${summary}`);
      this.#checkBody({ $ref: "#/components/schemas/Problem" }, answer.text, summary);
      return;
    }
    const response = found.operation.responses[String(answer.status)];
    if (response === undefined) throw new Error(`Undocumented status: ${summary}`);
    if (answer.status === 401 && answer.headers.get("www-authenticate") === null)
      throw new Error(`No challenge: ${summary}`);
    if ([429, 503].includes(answer.status) && answer.headers.get("retry-after") === null)
      throw new Error(`No Retry-After: ${summary}`);
    // A resource that is read by its id or key has an ETag. A member of a segment has no version.
    if (method === "GET" && answer.status === 200 && found.isOne && !answer.headers.get("etag"))
      throw new Error(`No ETag: ${summary}`);
    if (response.content === undefined) {
      if (answer.text !== "") throw new Error(`A body that is not documented: ${summary}`);
      return;
    }
    const content = response.content[type];
    if (content === undefined) throw new Error(`Undocumented content type: ${summary}`);
    if (content.schema !== undefined && /[/+]json$/.test(type)) this.#checkBody(content.schema, answer.text, summary);
  }

  #checkBody(schema: Json, text: string, summary: string): void {
    let validator = this.#validators.get(schema);
    if (validator === undefined) {
      // A problem may have further members. Every other schema is complete.
      const closed = JSON.stringify(schema).includes("schemas/Problem") ? {} : { unevaluatedProperties: false };
      const root = { allOf: [schema], ...closed, components: this.document.components } as Schema;
      validator = new Validator(root, "2020-12", true);
      this.#validators.set(schema, validator);
    }
    const { valid, errors } = validator.validate(JSON.parse(text));
    if (!valid) throw new Error(`${innermost(errors)}: ${summary}`);
  }
}

/** Where one member is wrong, none counts as evaluated: that is reported only where nothing else is. */
const innermost = (errors: OutputUnit[]) =>
  errors
    .toSorted((one, other) => Number(isUnevaluated(one)) - Number(isUnevaluated(other)))
    .slice(0, 6)
    .map(({ instanceLocation, error }) => `${instanceLocation} ${error}`)
    .join("; ");

const isUnevaluated = ({ error }: OutputUnit) => /unevaluated|False boolean/.test(error);
