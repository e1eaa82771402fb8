/** What is measured, said once for every side: each puts it into its own product's document and context. */

export type Test =
  | { op: "in"; attribute: string; values: string[] }
  | { op: "semverLessThan"; attribute: string; value: string }
  | { op: "matches"; attribute: string; value: string; suffix: string }
  | { op: "lessThan"; attribute: string; value: number }
  | { op: "before"; attribute: string; value: string };

/** Targets, the segment's members and whoever passes all tests of a rule are served `hit`; everybody else, what follows. */
export type FlagSpec = {
  key: string;
  hit: boolean | string;
  targets: string[];
  segment: string[];
  rules: Test[][];
  otherwise: boolean | string | [variation: boolean | string, percent: number][];
};

export type User = { targetingKey: string } & Record<string, string | number>;
export type Answer = boolean | string | null | undefined;
export type Workload = {
  name: string;
  title: string;
  flags: FlagSpec[];
  users: User[];
  /** W7 asks for every flag at once. */
  all: boolean;
  /** Throws where the answers to `users`, flag by flag, are not what the workload is about. */
  check(answers: (user: number, flag: number) => Answer): void;
};

/** A product, offline. `document` is what its server would send; `open` takes its text and is ready when it answers. */
export type Side = {
  document(flags: FlagSpec[]): unknown;
  open(text: string): Engine | Promise<Engine>;
  /** Its evaluations are promises. */
  asynchronous?: true;
};
export type Engine = {
  /** A user as the product wants it; made before the clock starts. */
  context(user: User): unknown;
  ask(flag: FlagSpec): (context: never) => unknown;
  askAll(flags: FlagSpec[]): (context: never) => unknown;
  /** From what `ask` answered, and what `askAll` did. */
  value(answer: never): Answer;
  valueOf(answers: never, key: string): Answer;
};

/** How many different users a workload asks for in turn: a power of two. */
const USERS = 64;
const ATTRIBUTES = ["country", "plan", "role", "platform", "team", "region", "language", "channel", "device", "tier"];

const blank: FlagSpec = { key: "flag", hit: true, targets: [], segment: [], rules: [], otherwise: false };
const member = (index: number): string => `member-${String(index).padStart(6, "0")}`;

function user(index: number): User {
  const attributes = Object.fromEntries(ATTRIBUTES.map((name) => [name, `${name}-mine`]));
  return {
    targetingKey: `user-${String(index * 7919).padStart(13, "0")}`,
    ...attributes,
    email: `user-${index}@customer.example`,
    version: `2.${index}.1`,
    age: 20 + index,
    createdAt: `2024-03-${String(1 + (index % 28)).padStart(2, "0")}T12:30:00.000Z`,
  };
}

/** The rule `hit` holds for everybody, if there is one; the others for nobody. */
function inRules(count: number, hit: number, salt = 0): Test[][] {
  return Array.from({ length: count }, (_, rule) => [
    isOneOf(ATTRIBUTES[rule % ATTRIBUTES.length]!, salt + rule, rule === hit),
  ]);
}

function isOneOf(attribute: string, salt: number, holds: boolean): Test {
  const values = Array.from({ length: 5 }, (_, index) => `${attribute}-${salt}-${index}`);
  if (holds) values[3] = `${attribute}-mine`;
  return { op: "in", attribute, values };
}

const MIXED: Test[] = [
  { op: "semverLessThan", attribute: "version", value: "1.4.0" },
  { op: "matches", attribute: "email", value: "^(ops|admin)-[a-z]+@example\\.com$", suffix: "@example.com" },
  { op: "lessThan", attribute: "age", value: 18 },
  { op: "before", attribute: "createdAt", value: "2020-01-01T00:00:00Z" },
  { op: "semverLessThan", attribute: "version", value: "2.0.0-rc.1" },
  { op: "matches", attribute: "email", value: "@(staff|test)\\.example$", suffix: "@staff.example" },
  { op: "lessThan", attribute: "age", value: 16 },
  { op: "before", attribute: "createdAt", value: "2022-06-30T23:59:59Z" },
  { op: "semverLessThan", attribute: "version", value: "1.9.9" },
  { op: "lessThan", attribute: "age", value: 12.5 },
];

const users = Array.from({ length: USERS }, (_, index) => user(index));
const members = Array.from({ length: 10_000 }, (_, index) => member(index));
const segmentUsers = (from: number): User[] =>
  users.map((one, index) => ({ ...one, targetingKey: member(from + index * 149) }));
const targeted = Array.from({ length: 100 }, (_, index) => member(index));

function always(expected: Answer): Workload["check"] {
  return (answers) => {
    for (let index = 0; index < USERS; index++) {
      const answer = answers(index, 0);
      if (answer !== expected) throw new Error(`user ${index} got ${answer}, not ${expected}`);
    }
  };
}

/** A product's own hash decides who gets what: each variation is only asked for its share of 64 users, loosely. */
function shared(variations: Answer[]): Workload["check"] {
  return (answers) => {
    const counts = new Map(variations.map((variation) => [variation, 0]));
    for (let index = 0; index < USERS; index++) {
      const answer = answers(index, 0);
      if (!counts.has(answer)) throw new Error(`user ${index} got ${answer}, not one of ${variations}`);
      counts.set(answer, counts.get(answer)! + 1);
    }
    for (const [variation, count] of counts) {
      if (count < USERS / variations.length / 3) throw new Error(`${variation} went to ${count} of ${USERS} users`);
    }
  };
}

function one(name: string, title: string, flag: Partial<FlagSpec>, who: User[], check: Workload["check"]): Workload {
  return { name, title, flags: [{ ...blank, ...flag }], users: who, all: false, check };
}

/** Every eleventh of these flags matches no rule. */
const matching = (index: number): number => index % 11;
const fiveHundred = Array.from({ length: 500 }, (_, index) => ({
  ...blank,
  key: `flag-${index}`,
  rules: inRules(10, matching(index), index),
}));

export const workloads: Workload[] = [
  one("W1", "on, no rules", { otherwise: true }, users, always(true)),
  one(
    "W2",
    "target in 100",
    { targets: targeted },
    users.map((who, index) => ({ ...who, targetingKey: member(index) })),
    always(true),
  ),
  one("W3", "rule 5 of 5", { rules: inRules(5, 4) }, users, always(true)),
  one(
    "W4",
    "50 % split",
    {
      otherwise: [
        [true, 50],
        [false, 50],
      ],
    },
    users,
    shared([true, false]),
  ),
  one(
    "W5",
    "ten rules miss, 3-way split",
    {
      hit: "hit",
      rules: MIXED.map((test) => [test]),
      otherwise: [
        ["a", 34],
        ["b", 33],
        ["c", 33],
      ],
    },
    users,
    shared(["a", "b", "c"]),
  ),
  one("W6 hit", "segment of 10,000", { segment: members }, segmentUsers(0), always(true)),
  one("W6 miss", "segment of 10,000", { segment: members }, segmentUsers(20_000), always(false)),
  {
    name: "W7",
    title: "all of 500 flags, 10 rules each",
    flags: fiveHundred,
    users,
    all: true,
    check(answers) {
      for (let flag = 0; flag < 500; flag++) {
        const answer = answers(flag % USERS, flag);
        if (answer !== matching(flag) < 10) throw new Error(`flag ${flag} answered ${answer}`);
      }
    },
  },
];

/** For loading: targets, rules and a split in each. */
export const tenThousand: FlagSpec[] = Array.from({ length: 10_000 }, (_, index) => ({
  ...blank,
  key: `flag-${index}`,
  targets: Array.from({ length: 5 }, (_, target) => member(index + target)),
  rules: inRules(3, -1, index),
  otherwise: [
    [true, 50],
    [false, 50],
  ],
}));

/** The variations a flag can serve, each once. */
export function variationsOf(flag: FlagSpec): (boolean | string)[] {
  const rest = Array.isArray(flag.otherwise) ? flag.otherwise.map(([variation]) => variation) : [flag.otherwise];
  return [...new Set([flag.hit, ...rest])];
}
