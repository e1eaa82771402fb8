/** Options as callers may write them: null, as a setting that is not there often is, is as good as absent. */
export type Nullable<Options> = {
  [Name in keyof Options]: undefined extends Options[Name] ? Options[Name] | null : Options[Name];
};

/** Without what is null. */
export const withoutNulls = <Options extends object>(options: Nullable<Options> | null | undefined): Options =>
  Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== null)) as Options;
