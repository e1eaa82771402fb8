/** Types alone: what an application's flags, values and contexts may be. */
import type { Json } from "@bunting/core";

/** Any flags of any type: where an application does not say which it has. */
export type FlagTypes = Record<string, Json>;

/** The keys of the flags whose values are of this type. */
export type KeyOf<Flags extends object, Value> = string extends keyof Flags
  ? string
  : { [Key in keyof Flags & string]: Flags[Key] extends Value ? Key : never }[keyof Flags & string];

/**
 * For a parameter of type `Value & IfJson<Value>`: never, so that nothing fits, unless the value can be JSON. An
 * `interface`, which has no index signature, can be, and is not assignable to `Json`.
 */
export type IfJson<Value> = [Value] extends [JsonOf<Value>] ? unknown : never;

type JsonOf<Value> = Value extends Json
  ? Value
  : Value extends (...args: never[]) => unknown
    ? never
    : Value extends object
      ? {
          [Name in keyof Value]: undefined extends Value[Name]
            ? JsonOf<Exclude<Value[Name], undefined>>
            : JsonOf<Value[Name]>;
        }
      : never;

/** What a flag's value can be, derived from its default: any boolean for `false`, any string for `""`, anything for null. */
export type Like<Value> = [Value] extends [null]
  ? Json
  : Value extends boolean
    ? boolean
    : Value extends number
      ? number
      : Value extends string
        ? string
        : Value;

/** As core's `Context`; an `interface` is assignable to an index signature only where that is of any. */
export type GivenContext = {
  targetingKey?: string | null | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: see above
  [attribute: string]: any;
};
