/** The project and the environment that a path names, or 404: from D1 or, where that does not answer, from KV. */
import { notFound, unavailable } from "../../platform/problem.ts";
import { type EnvironmentName, findEnvironment } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { findHead } from "../../store/environments.ts";
import { projectState } from "../../store/projects.ts";
import type { Requested } from "./request.ts";

type In<Path> = Pick<Requested<Path>, "env" | "db" | "path">;

/** An environment's names and whereabouts, from D1 or, where that does not answer, from KV. */
export async function environmentOf({ env, db, path }: In<{ project: string; environment: string }>) {
  const { project, environment } = path;
  const found = await findEnvironment(db, env.KV, project, environment).catch(() => {
    throw unavailable("The environment cannot be looked up at the moment.");
  });
  if (found === null) throw notFound(`The environment ${project}/${environment}`);
  return found;
}

/** What an edit of the environment is put on top of. Read it before anything that the edit is validated against. */
export async function headIn(db: Database, { id, project, environment }: EnvironmentName) {
  const head = await findHead(db, id);
  if (head === undefined) throw notFound(`The environment ${project}/${environment}`);
  return head;
}

/** The project with its environments and one flag, as one transaction saw them. */
export async function projectOf(db: Database, project: string, flagKey?: string) {
  const state = await projectState(db, project, flagKey);
  if (state === null) throw notFound(`The project ${project}`);
  return state;
}
