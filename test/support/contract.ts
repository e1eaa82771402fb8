/** Every answer of the management plane held against the OpenAPI document: what it does not say must not happen. */
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
    // "/flags/bulk" is not the flag of that name.
    this.#operations = all.sort((one, other) => one.parameters - other.parameters);
  }

  /** @throws Error with what the document does not say. */
  check(method: string, path: string, answer: Answered): void {
    const place = path.replace(/\?.*$/s, "").replace(/\/$/, "");
    const there = this.#operations.filter((one) => one.pattern.test(place));
    const found = there.find((one) => one.method === method && one.parameters === there[0]?.parameters);
    const type = answer.headers.get("content-type")?.replace(/;.*$/, "") ?? "";
    const told = `${method} ${place} answered ${answer.status} ${type} ${answer.text.slice(0, 300)}`;
    if (answer.headers.get("x-correlation-id") === null) throw new Error(`No X-Correlation-Id: ${told}`);
    if (found === undefined) {
      // Nothing is documented there: it can only be refused, and like everywhere.
      if (![401, 403, 404, 405, 429, 503].includes(answer.status)) throw new Error(`Undocumented: ${told}`);
      this.#checkBody({ $ref: "#/components/schemas/Problem" }, answer.text, told);
      return;
    }
    const response = found.operation.responses[String(answer.status)];
    if (response === undefined) throw new Error(`Undocumented status: ${told}`);
    if (answer.status === 401 && answer.headers.get("www-authenticate") === null)
      throw new Error(`No challenge: ${told}`);
    if ([429, 503].includes(answer.status) && answer.headers.get("retry-after") === null)
      throw new Error(`When? ${told}`);
    // What is read by its id or key says of which version it is; a member has none: it is there or not.
    if (method === "GET" && answer.status === 200 && found.isOne && !answer.headers.get("etag"))
      throw new Error(`No ETag: ${told}`);
    if (response.content === undefined) {
      if (answer.text !== "") throw new Error(`A body that is not documented: ${told}`);
      return;
    }
    const content = response.content[type];
    if (content === undefined) throw new Error(`Undocumented content type: ${told}`);
    if (content.schema !== undefined && /[/+]json$/.test(type)) this.#checkBody(content.schema, answer.text, told);
  }

  #checkBody(schema: Json, text: string, told: string): void {
    let validator = this.#validators.get(schema);
    if (validator === undefined) {
      // A problem has members of its own; all else says what it holds.
      const closed = JSON.stringify(schema).includes("schemas/Problem") ? {} : { unevaluatedProperties: false };
      const root = { allOf: [schema], ...closed, components: this.document.components } as Schema;
      validator = new Validator(root, "2020-12", true);
      this.#validators.set(schema, validator);
    }
    const { valid, errors } = validator.validate(JSON.parse(text));
    if (!valid) throw new Error(`${innermost(errors)}: ${told}`);
  }
}

/** Where one member is wrong, none counts as evaluated: that is told only where nothing else is. */
const innermost = (errors: OutputUnit[]) =>
  errors
    .toSorted((one, other) => Number(isUnevaluated(one)) - Number(isUnevaluated(other)))
    .slice(0, 6)
    .map(({ instanceLocation, error }) => `${instanceLocation} ${error}`)
    .join("; ");

const isUnevaluated = ({ error }: OutputUnit) => /unevaluated|False boolean/.test(error);
