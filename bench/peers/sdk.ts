/** Everything of the core but validate, to be weighed. */
export * from "@bunting/core";
