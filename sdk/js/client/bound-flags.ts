import type { Decision } from "@bunting/core";
import type { FlagTypes, GivenContext, IfJson, KeyOf, Like } from "./flag-types.ts";

/** What clients that evaluate rules answer, for any context. */
type Getters<Flags extends object> = {
  boolean(key: KeyOf<Flags, boolean>, defaultValue: boolean, context: GivenContext): boolean;
  string(key: KeyOf<Flags, string>, defaultValue: string, context: GivenContext): string;
  number(key: KeyOf<Flags, number>, defaultValue: number, context: GivenContext): number;
  json<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>, context: GivenContext): Like<Value>;
  details<Value>(
    key: keyof Flags & string,
    defaultValue: Value & IfJson<Value>,
    context: GivenContext,
  ): Decision<Like<Value>>;
  all(context: GivenContext): Record<string, Decision>;
  track(metric: string, context: GivenContext, value?: number): void;
};

/** The same for one context. */
export type BoundFlags<Flags extends object = FlagTypes> = {
  boolean(key: KeyOf<Flags, boolean>, defaultValue: boolean): boolean;
  string(key: KeyOf<Flags, string>, defaultValue: string): string;
  number(key: KeyOf<Flags, number>, defaultValue: number): number;
  json<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>): Like<Value>;
  details<Value>(key: keyof Flags & string, defaultValue: Value & IfJson<Value>): Decision<Like<Value>>;
  all(): Record<string, Decision>;
  track(metric: string, value?: number): void;
};

export const boundTo = <Flags extends object>(client: Getters<Flags>, context: GivenContext): BoundFlags<Flags> => ({
  boolean: (key, defaultValue) => client.boolean(key, defaultValue, context),
  string: (key, defaultValue) => client.string(key, defaultValue, context),
  number: (key, defaultValue) => client.number(key, defaultValue, context),
  json: (key, defaultValue) => client.json(key, defaultValue as never, context) as never,
  details: (key, defaultValue) => client.details(key, defaultValue as never, context) as never,
  all: () => client.all(context),
  track: (metric, value) => client.track(metric, context, value),
});
