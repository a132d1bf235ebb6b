// Paths of the page. They are part of what people send to each other, so they stay.

export const TABS = ["now", "candles", "checkpoints", "partitions", "errors", "scaling", "quarantine", "spec"] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { page: "overview" }
  | { page: "feed"; namespace: string; name: string; tab: Tab }
  | { page: "unknown"; path: string };

/** What a path shows. */
export function parse(path: string): Route {
  const segments = path.split("/").filter((segment) => segment !== "");
  const unknown: Route = { page: "unknown", path };
  let decoded: string[];
  try {
    decoded = segments.map(decodeURIComponent);
  } catch {
    return unknown;
  }
  const [first, namespace, name, tab = "now", ...rest] = decoded;
  if (first === undefined || (first === "feeds" && namespace === undefined)) return { page: "overview" };
  if (first !== "feeds" || !namespace || !name || rest.length > 0) return unknown;
  const known = TABS.find((candidate) => candidate === tab);
  return known ? { page: "feed", namespace, name, tab: known } : unknown;
}

/** The path of a feed's page. */
export function feedPath(namespace: string, name: string, tab: Tab = "now"): string {
  const base = `/feeds/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
  return tab === "now" ? base : `${base}/${tab}`;
}

/** A query string without what is empty or as it is anyway. */
export function query(values: Record<string, string | number | null | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(key, String(value));
  }
  const text = parameters.toString();
  return text ? `?${text}` : "";
}
