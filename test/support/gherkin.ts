/** Runs the scenarios of .feature files. A step is defined by a pattern and a function. */
import { globSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { AstBuilder, compile, GherkinClassicTokenMatcher, Parser } from "@cucumber/gherkin";
import { IdGenerator, type Pickle } from "@cucumber/messages";

/** `pattern` has to match the whole text of a step. `table` has the rows below the step. */
export type Step<World> = [
  pattern: RegExp,
  act: (world: World, groups: string[], table: string[][]) => void | Promise<void>,
];

export type Scenario = { feature: string; name: string; line: number; title: string; pickle: Pickle };

/** Every scenario; an outline is one for each row of its examples. */
export function scenariosIn(pattern: string): Scenario[] {
  return globSync(pattern)
    .sort()
    .flatMap((file) => {
      const newId = IdGenerator.incrementing();
      const parser = new Parser(new AstBuilder(newId), new GherkinClassicTokenMatcher());
      const feature = basename(file, ".feature");
      return compile(parser.parse(readFileSync(file, "utf8")), file, newId).map((pickle) => {
        const line = pickle.location?.line ?? 0;
        return { feature, name: pickle.name, line, title: `${feature}:${line} ${pickle.name}`, pickle };
      });
    });
}

/** @throws Error for a step that does not match exactly one pattern, before the first step runs. */
export async function runScenario<World>({ pickle }: Scenario, steps: Step<World>[], world: World): Promise<void> {
  const planned = pickle.steps.map(({ text, argument }) => {
    const found = steps.flatMap(([pattern, act]) => {
      const match = new RegExp(`^(?:${pattern.source})$`).exec(text);
      return match === null ? [] : [{ act, groups: match.slice(1).map((group) => group ?? "") }];
    });
    if (found.length !== 1) throw new Error(`${found.length} patterns match the step "${text}"`);
    const table = argument?.dataTable?.rows.map(({ cells }) => cells.map(({ value }) => value)) ?? [];
    return { ...found[0]!, table };
  });
  for (const { act, groups, table } of planned) await act(world, groups, table);
}
