/** Many rows in few statements: D1 takes a hundred parameters a statement, and JSON of a megabyte in each. */
import { getTableColumns, type SQL, sql } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Database, Statement } from "./database.ts";

/** Well below what a parameter may be, in UTF-16 units: a letter has at most three bytes for each. */
const PIECE = 300_000;

/** The rows as JSON arrays, each short enough for one parameter. */
export function inPieces(rows: readonly object[]): string[] {
  const pieces: string[][] = [];
  let length = PIECE;
  for (const text of rows.map((row) => JSON.stringify(row))) {
    if (length + text.length > PIECE) {
      pieces.push([]);
      length = 0;
    }
    length += text.length;
    pieces.at(-1)!.push(text);
  }
  return pieces.map((piece) => `[${piece.join(",")}]`);
}

export const listed = (values: readonly string[]): SQL => sql`(SELECT value FROM json_each(${JSON.stringify(values)}))`;

export function insertRows<Table extends SQLiteTable>(
  db: Database,
  table: Table,
  rows: readonly Table["$inferInsert"][],
): Statement[] {
  const columns = Object.entries(getTableColumns(table));
  const stored = rows.map((row) => {
    const fields = row as Record<string, unknown>;
    const value = (name: string) => fields[name] ?? null;
    return Object.fromEntries(
      columns.map(([name, column]) => [
        column.name,
        value(name) === null ? null : column.mapToDriverValue(value(name)),
      ]),
    );
  });
  const values = sql.join(
    columns.map(([, column]) => sql`value ->> ${column.name}`),
    sql`, `,
  );
  return inPieces(stored).map((piece) => db.insert(table).select(sql`SELECT ${values} FROM json_each(${piece})`));
}
