/** Every number that a request can carry, found in the OpenAPI document: it counts something, or is taken as text as well. */
import { describe, expect, test } from "vitest";
import { newFlag, newProject } from "../../support/admin.ts";
import { api, contract, operations } from "../../support/story.ts";

type Schema = {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  description?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
};
/** Where a number may stand in a document; `containing`: the smallest document that has a value there. */
type Place = { pointer: string; schema: Schema; containing: (value: unknown) => unknown };

const { schemas } = contract.document.components as { schemas: Record<string, Schema> };
const typesOf = ({ type }: Schema) => [type ?? []].flat();

/** Literals beside a field say which of several shapes is meant. */
const literalsOf = ({ properties = {} }: Schema) =>
  Object.fromEntries(
    Object.entries(properties).flatMap(([name, field]) => {
      const literal = field.const ?? (field.enum?.length === 1 ? field.enum[0] : undefined);
      return literal === undefined ? [] : [[name, literal]];
    }),
  );

/** `within`: names of shapes that this one is a part of: a condition has conditions. */
function placesIn(schema: Schema, within: string[] = []): Place[] {
  const name = schema.$ref?.split("/").at(-1);
  if (name !== undefined) return within.includes(name) ? [] : placesIn(schemas[name]!, [...within, name]);
  const below = (step: string, part: Schema, wrap: (value: unknown) => unknown) =>
    placesIn(part, within).map(({ pointer, schema, containing }) => ({
      pointer: `/${step}${pointer}`,
      schema,
      containing: (value: unknown) => wrap(containing(value)),
    }));
  const { properties = {}, items, additionalProperties: values, allOf = [], anyOf = [], oneOf = [] } = schema;
  return [
    ...(typesOf(schema).some((type) => type === "integer" || type === "number")
      ? [{ pointer: "", schema, containing: (value: unknown) => value }]
      : []),
    ...[...allOf, ...anyOf, ...oneOf].flatMap((part) => placesIn(part, within)),
    ...Object.entries(properties).flatMap(([field, part]) =>
      below(field, part, (value) => ({ ...literalsOf(schema), [field]: value })),
    ),
    ...(items === undefined ? [] : below("0", items, (value) => [value])),
    ...(typeof values === "object" ? below("on", values, (value) => ({ on: value })) : []),
  ];
}

const found = operations.flatMap((operation) => {
  const { requestBody, parameters = [] } = operation;
  const bodies = Object.values(requestBody?.content ?? {}) as { schema: Schema }[];
  return [
    ...bodies.flatMap(({ schema }) => placesIn(schema)),
    ...parameters.flatMap(({ name, in: part, schema }) =>
      schema === undefined ? [] : placesIn(schema as Schema).map((one) => ({ ...one, pointer: `${part}:/${name}` })),
    ),
  ].map((place) => ({ ...place, operation }));
});
const isAlsoText = ({ schema }: Place) => typesOf(schema).includes("string");

/** What counts something, is a version, or is data of the customer's. A day is the unit of those that end in Days. */
const COUNTS = [
  ...["/values/0", "/versions/from", "/versions/to", "/line", "/approvals", "/revision", "/step", "/tolerance"],
  ...["/path/entry", "path:/entry", "path:/revision", "query:/limit", "query:/thresholdDays", "query:/unchangedDays"],
];

const NO_NUMBERS = [true, {}, [], 1.5, 1e300];
const KINDS = {
  share: {
    says: /percent/i,
    texts: ["12.5%", "100%", "1.000%"],
    wrong: [
      ...["1e9%", "NaN%", "-1%", "10 %", " 10%", "101%", "100.001%", "0.0001%", "10", "%", "", "１０%", -1, 100_001],
      ...NO_NUMBERS,
    ],
    answer: /^That is not a share from 0(\.001)?% to 100%\. Send thousandths of a percent .*"12\.5%"/,
  },
  time: {
    says: /ISO 8601/,
    texts: ["", ".5", ".123"].map((fraction) =>
      new Date(Date.now() + 86_400_000).toISOString().replace(/\.\d+Z/, `${fraction}+01:00`),
    ),
    wrong: [
      ...["2026-13-01T00:00:00Z", "2027-02-30T00:00:00Z", "2027-01-01T24:00:00Z", "2027-01-01T00:00:60Z"],
      ...["2027-01-01T00:00:00", "2027-01-01T00:00:00+99:00", "2027-01-01", "tomorrow", "1e400", ""],
      ...[8_640_000_000_000_001, ...NO_NUMBERS],
    ],
    answer:
      /^(That is not a time|There is no such time|The time has no offset).*([Ss]end epoch milliseconds|end it with)/,
  },
  duration: {
    says: /duration/,
    texts: ["1s", "0h0m9s"],
    wrong: ["99999999999d", "9999d", "1.5h", "-1d", "1 d", "1w", "P1D", "s", "", -1, ...NO_NUMBERS],
    answer: /^That is not a duration from \w+ to \w+\. Send milliseconds, or a duration like "1d"/,
  },
} as const;

test("every number in a request counts something, or is a share, a time or a duration that text is taken for", () => {
  const counted = found.filter((place) => !isAlsoText(place));
  const isCount = (pointer: string) => COUNTS.filter((count) => pointer.endsWith(count));
  expect(counted.filter(({ pointer }) => isCount(pointer).length === 0).map(named)).toEqual([]);
  const used = new Set(counted.flatMap(({ pointer }) => isCount(pointer)));
  expect(COUNTS.filter((count) => !used.has(count))).toEqual([]);
  const kinds = found.filter(isAlsoText).map((place) => [named(place), kindsOf(place).length]);
  expect(kinds.filter(([, count]) => count !== 1)).toEqual([]);
  expect(kinds.length).toBeGreaterThan(40);
});

const named = ({ operation, pointer }: (typeof found)[number]) => `${operation.operationId} ${pointer}`;
const kindsOf = ({ schema }: Place) => Object.values(KINDS).filter(({ says }) => says.test(schema.description ?? ""));

describe("text for a number", async () => {
  const project = await newProject(api);
  await newFlag(api, project, "solid");
  const there: Record<string, string> = { project, environment: "production", flag: "solid" };

  /** Errors at that place. Nothing is written: what is missing in the smallest document is an error elsewhere. */
  async function errorsAt({ operation, pointer, containing }: (typeof found)[number], value: unknown) {
    const { path, method } = operation;
    const place = path.replace(/\{(\w+)\}/g, (_, name: string) => there[name] ?? "x");
    const isBody = pointer.startsWith("/");
    const query = new URLSearchParams({
      ...(!isBody && { [pointer.split("/").at(-1)!]: String(value) }),
      ...(method !== "get" && { dryRun: "true" }),
    });
    const body = method === "get" ? undefined : isBody ? containing(value) : {};
    const answer = await api(method.toUpperCase(), `${place}?${query}`, body);
    expect(answer.status).toBeLessThan(500);
    const errors = (answer.body?.errors ?? []) as { pointer: string; message: string }[];
    return {
      status: answer.status,
      messages: errors.filter((one) => one.pointer === pointer).map((one) => one.message),
    };
  }

  const byPlace = Map.groupBy(found.filter(isAlsoText), named);
  test.each([...byPlace])("%s", async (_, places) => {
    for (const place of places) {
      const [kind] = kindsOf(place);
      for (const text of kind!.texts) {
        expect([text, (await errorsAt(place, text)).messages]).toEqual([text, []]);
      }
      const wrong = place.pointer.startsWith("/") ? kind!.wrong : kind!.wrong.filter((one) => typeof one === "string");
      for (const value of wrong) {
        const messages = expect.arrayContaining([expect.stringMatching(kind!.answer)]);
        expect([value, await errorsAt(place, value)]).toEqual([value, { status: 400, messages }]);
      }
    }
  });
});
