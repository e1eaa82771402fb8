/** Which flags a key gets to see: a client key, which is public, those that are made for clients. */
import type { Flag } from "@bunting/core";
import type { KeyKind } from "../../store/schema/index.ts";

export const isForClients = (flag: Flag | null | undefined): flag is Flag => flag?.clientSide === true;

export const isVisible = (flag: Flag | undefined, kind: KeyKind): flag is Flag =>
  kind === "server" ? flag !== undefined : isForClients(flag);
