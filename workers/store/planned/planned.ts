/** What schedules and ramps are found by. */
import { inArray, type SQL } from "drizzle-orm";
import * as table from "../schema/index.ts";

export type PlannedFilter<Status> = {
  projectId: string;
  /** Keys of the environments that the caller may see, null for all. */
  visible: string[] | null;
  environment: string | undefined;
  flag: string | undefined;
  author: string | undefined;
  status: Status | undefined;
  q: string | undefined;
};

/** As `EnvironmentName`, of tables that are joined to a plan. */
export const environmentName = {
  id: table.environments.id,
  projectId: table.projects.id,
  project: table.projects.key,
  environment: table.environments.key,
  location: table.environments.location,
};

export const inScope = (visible: string[] | null): SQL | undefined =>
  visible === null ? undefined : inArray(table.environments.key, visible);
