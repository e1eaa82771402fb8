/** The schemas' library with `.openapi()` on every schema: import it from here, so that no schema is made before that. */
import { extendZodWithOpenApi } from "@asteasolutions/zod-to-openapi";
import { z } from "zod";

extendZodWithOpenApi(z);

export { z };
