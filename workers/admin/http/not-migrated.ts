import { ApiError } from "../../platform/problem.ts";
import { MIGRATE } from "../../store/migrations.ts";

/** To repeat the request helps only once somebody has done so. */
export const notMigrated = (missing: string): ApiError =>
  new ApiError(
    503,
    "not-migrated",
    `The database has no ${missing}: its migrations have not been applied. Apply them: ${MIGRATE}`,
    {
      headers: { "retry-after": "60" },
    },
  );
