/** The judge has to find each thing that it is there to find (Q8). */
import { describe, expect, test } from "vitest";
import { type Acknowledged, type Change, type Ended, History, judge, type Seen, Watch } from "./invariants.ts";

const seen = (version: number, sequence: number | null = version - 1, killed = sequence === null): Seen => ({
  flag: "a",
  version,
  sequence,
  killed,
});
const patch = (revision: number, ...flags: Seen[]): Change => ({
  revision,
  previous: revision - 1,
  patched: true,
  seen: flags,
});

describe("one client", () => {
  const rows: [string, Change[], RegExp[]][] = [
    ["changes one after another", [patch(11, seen(2)), patch(12, seen(3))], []],
    [
      "a kill, an edit under it, and a restore",
      [patch(11, seen(1, null)), patch(12, seen(2, null)), patch(13, seen(2))],
      [],
    ],
    ["a whole ruleset over a gap", [{ revision: 15, previous: 10, patched: false, seen: [seen(4)] }], []],
    ["a revision twice", [patch(11, seen(2)), patch(11, seen(2))], [/from revision 11 to 11/, /follows 10/, /twice/]],
    ["a revision lower than before", [patch(11), patch(9)], [/from revision 11 to 9/, /had 11 .* follows 8/]],
    ["a revision left out", [patch(12, seen(2))], [/had 10 .* follows 11/]],
    ["a write left out", [patch(11, seen(3))], [/version 3 came after 1: a change was skipped/]],
    [
      "a write twice under two revisions",
      [patch(11, seen(2)), patch(12, seen(2))],
      [/12: a version 2 was applied twice/],
    ],
    ["a kill twice", [patch(11, seen(1, null)), patch(12, seen(1, null))], [/applied twice/]],
    ["an older version", [patch(11, seen(2)), patch(12, seen(1))], [/version 1 came after 2/]],
    ["an older version in a whole ruleset", [{ ...patch(11, seen(0, 0)), patched: false }], [/version 0 came after 1/]],
  ];
  for (const [what, changes, expected] of rows) {
    test(`${what}: ${expected.length} violations`, () => {
      const watch = new Watch({ client: "c", revision: 10, flags: [seen(1)] });
      for (const change of changes) watch.saw(change);
      expect(watch.violations).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
    });
  }
});

test("two clients that were sent different things under one revision are found", () => {
  const history = new History();
  history.add({ revision: 12, ...seen(3) });
  history.add({ revision: 11, ...seen(2) });
  history.add({ revision: 12, ...seen(3) });
  expect(history.violations).toEqual([]);
  expect(history.entries().map(({ revision }) => revision)).toEqual([11, 12]);
  history.add({ revision: 12, ...seen(3, null) });
  expect(history.violations).toEqual(["revision 12 said two things of a"]);
});

describe("everybody, in the end", () => {
  const write = (sequence: number, version: number, revision: number | null) => ({
    flag: "a",
    sequence,
    version,
    revision,
  });
  const kill = (killed: boolean, revision: number) => ({ flag: "a", killed, revision });
  const acknowledged: Acknowledged = { writes: [write(1, 2, 11), write(2, 3, null)], kills: [] };
  const observed = [
    { revision: 11, ...seen(2) },
    { revision: 12, ...seen(3) },
  ];
  const at = (revision: number, ...flags: Seen[]): Ended => ({ client: "c", revision, flags });
  const end = [at(12, seen(3))];
  const rows: [string, Acknowledged, typeof observed, Ended[], RegExp[]][] = [
    ["all arrived", acknowledged, observed, end, []],
    ["a change that nobody saw on its way, and all have", acknowledged, observed.slice(1), end, []],
    [
      "a write lost on its way to one client",
      acknowledged,
      observed,
      [...end, { ...at(12, seen(2)), client: "d" }],
      [/d: ended without version 3/],
    ],
    [
      "a write lost in the database",
      { ...acknowledged, writes: [write(1, 2, 11), write(2, 2, 12)] },
      observed,
      end,
      [/write 2 .* version 2/],
    ],
    [
      "a write made twice",
      { ...acknowledged, writes: [write(1, 2, 11), write(2, 4, 12)] },
      observed,
      end,
      [/write 2 .* version 4/],
    ],
    [
      "a write that nobody had asked for",
      { writes: [write(1, 2, 11)], kills: [] },
      observed,
      end,
      [/ended without version 2/],
    ],
    [
      "two writes that changed places",
      acknowledged,
      [
        { revision: 11, ...seen(2, 2) },
        { revision: 12, ...seen(3, 1) },
      ],
      [at(12, seen(3, 1))],
      [/2 carried write 2/, /3 carried write 1/, /without/],
    ],
    [
      "an answered write that came later than its answer said",
      { ...acknowledged, writes: [write(1, 2, 10), write(2, 3, 11)] },
      [
        { revision: 12, ...seen(2) },
        { revision: 13, ...seen(3) },
      ],
      [at(13, seen(3))],
      [/revision 12 still had version 2/],
    ],
    [
      "clients that do not agree where they are",
      acknowledged,
      observed,
      [...end, at(13, seen(3))],
      [/different revisions: 12, 13/],
    ],
    [
      "a kill",
      { ...acknowledged, kills: [kill(true, 13)] },
      [...observed, { revision: 13, ...seen(3, null) }],
      [at(13, seen(3, null))],
      [],
    ],
    [
      "a kill and its restore",
      { ...acknowledged, kills: [kill(true, 13), kill(false, 14)] },
      [...observed, { revision: 13, ...seen(3, null) }, { revision: 14, ...seen(3) }],
      [at(14, seen(3))],
      [],
    ],
    [
      "a kill that an edit lifted",
      { writes: [...acknowledged.writes, write(3, 4, 14)], kills: [kill(true, 13)] },
      [...observed, { revision: 13, ...seen(3, null) }, { revision: 14, ...seen(4) }],
      [at(14, seen(4))],
      [/14 it was not killed/, /ended without version 4, write 3, killed/],
    ],
    [
      "a kill that did not arrive",
      { ...acknowledged, kills: [kill(true, 13)] },
      observed,
      end,
      [/ended without version 3, write 2, killed/],
    ],
  ];
  for (const [what, acknowledged, history, ended, expected] of rows) {
    test(`${what}: ${expected.length} violations`, () => {
      const violations = judge({ a: 1 }, acknowledged, history, ended);
      expect(violations).toEqual(expected.map((pattern) => expect.stringMatching(pattern)));
    });
  }
});
