// What runs where code may not be generated: Workers, and pages with a strict content security policy.
import { flagd } from "./flagd.ts";

export default flagd({ disableDynamicCodeGeneration: true });
