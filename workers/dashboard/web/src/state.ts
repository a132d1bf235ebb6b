// What the whole page knows: where it is, what time it is at the server, how it looks, who looks.

import { computed, signal } from "@preact/signals";
import { request } from "./api/client";
import type { Session } from "./api/types";
import type { Zone } from "./lib/format";
import { parse } from "./lib/route";

export type Theme = "system" | "light" | "dark";

/** Settings outlive the page where the browser lets them; nothing secret is among them. */
function setting<T extends string>(key: string, known: readonly T[], otherwise: T) {
  let stored: string | null = null;
  try {
    stored = localStorage.getItem(key);
  } catch {
    // A browser may forbid it; then a setting lasts as long as the page.
  }
  const value = signal<T>(known.find((candidate) => candidate === stored) ?? otherwise);
  value.subscribe((next) => {
    try {
      localStorage.setItem(key, next);
    } catch {
      // As above.
    }
  });
  return value;
}

export const theme = setting<Theme>("stockfeed.theme", ["system", "light", "dark"], "system");
export const zone = setting<Zone>("stockfeed.zone", ["UTC", "local"], "UTC");

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(prefersDark.matches);
prefersDark.addEventListener("change", (event) => {
  systemDark.value = event.matches;
});
export const isDark = computed(() => (theme.value === "system" ? systemDark.value : theme.value === "dark"));
isDark.subscribe((dark) => {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
});

/** Where the page is. */
export const place = signal({ path: location.pathname, search: location.search });
export const route = computed(() => parse(place.value.path));
export const parameters = computed(() => new URLSearchParams(place.value.search));

addEventListener("popstate", () => {
  place.value = { path: location.pathname, search: location.search };
});

/** Goes to another page of ours, without loading anything anew. */
export function go(target: string, replace = false) {
  const url = new URL(target, location.href);
  if (url.pathname + url.search === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url.pathname + url.search);
  const moved = url.pathname !== place.value.path;
  place.value = { path: url.pathname, search: url.search };
  if (moved) scrollTo(0, 0);
}

/** Changes parameters of this page. */
export function setParameters(values: Record<string, string | null>) {
  const next = new URLSearchParams(place.value.search);
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") next.delete(key);
    else next.set(key, value);
  }
  const text = next.toString();
  go(`${place.value.path}${text ? `?${text}` : ""}`, true);
}

/** Follows links within the page; what is to open elsewhere does. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest("a");
    const elsewhere =
      event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
    if (!link || elsewhere || link.target || link.origin !== location.origin || link.hasAttribute("download")) return;
    if (link.hash && link.pathname === location.pathname) return;
    if (parse(link.pathname).page === "unknown") return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}

/** How far the server's clock is ahead of this one. Ages are by its clock: a laptop's own may be wrong. */
const offset = signal(0);
const ticking = signal(Date.now());
setInterval(() => {
  ticking.value = Date.now();
}, 1_000);

export function heardTime(at: string | null | undefined) {
  const server = at ? Date.parse(at) : Number.NaN;
  if (Number.isNaN(server)) return;
  ticking.value = Date.now();
  offset.value = server - ticking.value;
}

/** The server's time, each second. */
export const now = computed(() => ticking.value + offset.value);
/** This browser's time, each second. */
export const clientNow = computed(() => ticking.value);

export const session = signal<Session | null>(null);
export const sessionError = signal<unknown>(null);

/** Held in memory only: gone with the page, in no storage, in no address. */
let token: string | null = null;
export const hasToken = signal(false);

export function setToken(value: string | null) {
  token = value;
  hasToken.value = value !== null;
}

export const authorization = (): Record<string, string> => (token === null ? {} : { Authorization: `Bearer ${token}` });

export async function loadSession() {
  try {
    const next = await request<Session>("/api/v1/session", { headers: authorization() });
    session.value = next;
    sessionError.value = null;
    heardTime(next.now);
  } catch (error) {
    sessionError.value = error;
  }
}
