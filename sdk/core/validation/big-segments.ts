/** Validates the `big` of a segment. The server writes it, so that an error here is a defect or comes from an import. */
import { isBig } from "../segments/big-segment.ts";
import type { Fields, Report } from "./report.ts";

const PATH = ["big"] as const;

export function checkBig(value: unknown, report: Report): void {
  const big = report.object(value, PATH);
  if (big === undefined) return;
  for (const field of ["generation", "count", "bits", "hashes"]) checkCount(big, field, report);
  if (typeof big.url !== "string" || (big.url !== "" && !big.url.startsWith("/"))) {
    report.add([...PATH, "url"], "url-invalid", "This is the path of the filter, beginning with a slash.");
  }
  const added = new Set(report.texts(big.added, [...PATH, "added"], { allowEmpty: true }).map(([, text]) => text));
  for (const [index, text] of report.texts(big.removed, [...PATH, "removed"], { allowEmpty: true })) {
    if (added.has(text))
      report.add(
        [...PATH, "removed", index],
        "member-twice",
        "This member is in `added` too: leave it in one of them.",
      );
  }
  if (report.problems.length === 0 && !isBig(big)) {
    report.add(PATH, "big-invalid", "A filter has from 1 to 2^32 - 1 bits and from 1 to 64 hashes.");
  }
}

function checkCount(big: Fields, field: string, report: Report): void {
  const value = big[field];
  if (Number.isSafeInteger(value) && (value as number) >= 0) return;
  report.add([...PATH, field], "not-a-count", "This must be a whole number that is not negative.");
}
