/** In the page: `window.visitor`, whose client keeps things in the browser's own storage. */
import { Visitor } from "../support/visitor.ts";

Object.assign(globalThis, { visitor: new Visitor() });
