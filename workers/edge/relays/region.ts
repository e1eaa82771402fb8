import type { Region } from "../../../durable-objects/fan-out/tree.ts";

type Place = { continent?: string; longitude?: string; country?: string };

/** Countries of the Middle East that Cloudflare counts to Asia or Africa. */
const middleEast = new Set([
  "AE",
  "BH",
  "EG",
  "IL",
  "IQ",
  "IR",
  "JO",
  "KW",
  "LB",
  "OM",
  "PS",
  "QA",
  "SA",
  "SY",
  "TR",
  "YE",
]);

/** The location hint nearest to where a request came in: there stands the relay for its clients. */
export function regionOf(cf: unknown): Region {
  const place = cf as Place | undefined;
  const longitude = Number(place?.longitude ?? Number.NaN);
  if (place?.country !== undefined && middleEast.has(place.country)) return "me";
  switch (place?.continent) {
    case "NA":
      return longitude < -100 ? "wnam" : "enam";
    case "SA":
      return "sam";
    case "EU":
      return longitude > 20 ? "eeur" : "weur";
    case "AS":
      return "apac";
    case "OC":
      return "oc";
    case "AF":
      return "afr";
    default:
      return "enam";
  }
}
