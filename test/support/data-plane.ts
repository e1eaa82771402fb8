/** The data plane over HTTP, as SDKs and browsers reach it. */
import { exports } from "cloudflare:workers";
import { type Api, newFlag, newProject, newToken } from "./admin.ts";

export const fetchPath = (path: string, init: RequestInit = {}): Promise<Response> =>
  exports.default.fetch(new Request(`https://bunting.test${path}`, init));

export const withKey = (key: string, more: Record<string, string> = {}) => ({
  authorization: `Bearer ${key}`,
  ...more,
});

export type Place = { api: Api; project: string; environmentId: string; serverKey: string; clientKey: string };

/** A project whose production environment has a server key and a client key. */
export async function newPlace(origins: string[] = []): Promise<Place> {
  const api = await newToken();
  const project = await newProject(api);
  const keys = `/projects/${project}/environments/production/keys`;
  const { body: server } = await api("POST", keys, { kind: "server" });
  const { body: client } = await api("POST", keys, { kind: "client", origins });
  return {
    api,
    project,
    environmentId: `env_${server.key.split("_")[2]}`,
    serverKey: server.key,
    clientKey: client.key,
  };
}

/** Creates a flag that is on, and brings this isolate up to date, which serves an older ruleset for up to a second. */
export async function turnedOn(
  place: Place,
  key: string,
  fields: object = {},
  targeting: object = {},
): Promise<number> {
  const flag = await newFlag(place.api, place.project, key, fields);
  const { body } = await place.api("PATCH", `${flag}/environments/production`, { on: true, ...targeting });
  const caughtUp = await fetchPath(`/sdk/v1/ruleset?revision=${body.revision}`, { headers: withKey(place.serverKey) });
  await caughtUp.arrayBuffer();
  return body.revision;
}

export const evaluateRemotely = (
  key: string,
  flag: string,
  context: unknown,
  init: RequestInit = {},
): Promise<Response> =>
  fetchPath(`/ofrep/v1/evaluate/flags/${flag}`, {
    method: "POST",
    headers: withKey(key, { "content-type": "application/json" }),
    body: JSON.stringify({ context }),
    ...init,
  });
