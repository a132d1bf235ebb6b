// Which feeds are shown, and in which order. Pure.

import type { FeedState, FeedsEvent, Summary } from "../api/types";

/** From what needs a person at once to what is at rest. */
export const STATES: readonly FeedState[] = [
  "Stalled",
  "Failing",
  "Unreadable",
  "Unknown",
  "Deleting",
  "Draining",
  "Progressing",
  "Ready",
  "Suspended",
];

export const SORTS = ["attention", "name", "rate", "lag", "tick", "backlog", "quota", "quarantined"] as const;
export type Sort = (typeof SORTS)[number];

export interface View {
  search: string;
  states: readonly FeedState[];
  namespace: string;
  sort: Sort;
  descending: boolean;
}

export const keyOf = (feed: { namespace: string; name: string }) => `${feed.namespace}/${feed.name}`;

/** Ticks a second where somebody measures them, else what the operator saw arrive. */
export function rateOf(feed: Summary): { value: number | null; unit: string } {
  if (feed.ticksPerSecond !== null) return { value: feed.ticksPerSecond, unit: "ticks/s" };
  return { value: feed.arrivalPerSecond, unit: "msg/s" };
}

/** The share of the day's calls that is used. */
export function quotaShare(feed: Summary): number | null {
  const quota = feed.quota;
  if (!quota?.callsPerDay || quota.usedToday === null) return null;
  return quota.usedToday / quota.callsPerDay;
}

/** Whether quiet is expected: old ticks are then no sign of trouble. */
export const isQuiet = (feed: Summary) => feed.suspended || feed.market?.open === false;

/** How old data looks; a closed market makes nothing late. */
export function lagLevel(feed: Summary, seconds: number | null): "ok" | "warning" | "error" | "quiet" {
  if (seconds === null || isQuiet(feed)) return "quiet";
  if (seconds > 300) return "error";
  return seconds > 60 ? "warning" : "ok";
}

/** Whether every word is in the feed's name, namespace, state or trouble. */
export function matches(feed: Summary, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const { cause } = feed;
  const text = [keyOf(feed), feed.state, feed.message, cause?.condition, cause?.reason, cause?.message]
    .join(" ")
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

function figure(feed: Summary, sort: Sort): number | null {
  switch (sort) {
    case "rate":
      return rateOf(feed).value;
    case "lag":
      return isQuiet(feed) ? null : feed.watermarkLagSeconds;
    case "tick":
      return isQuiet(feed) ? null : feed.lastTickTime === null ? null : -Date.parse(feed.lastTickTime);
    case "backlog":
      return feed.backlog;
    case "quota":
      return quotaShare(feed);
    case "quarantined":
      return feed.quarantined;
    default:
      return null;
  }
}

const byName = (one: Summary, other: Summary) => {
  const [left, right] = [keyOf(one), keyOf(other)];
  return left < right ? -1 : left > right ? 1 : 0;
};

/** What needs attention first: the state, then for how long, then the backlog. */
function byAttention(one: Summary, other: Summary): number {
  const state = STATES.indexOf(one.state) - STATES.indexOf(other.state);
  if (state !== 0) return state;
  if (one.cause && other.cause && one.cause.since !== other.cause.since) {
    return one.cause.since < other.cause.since ? -1 : 1;
  }
  return (other.backlog ?? 0) - (one.backlog ?? 0) || byName(one, other);
}

/** The feeds of a view, in its order. What has no figure comes last, whichever way it is sorted. */
export function select(feeds: readonly Summary[], view: View): Summary[] {
  const chosen = feeds.filter(
    (feed) =>
      (view.states.length === 0 || view.states.includes(feed.state)) &&
      (view.namespace === "" || feed.namespace === view.namespace) &&
      matches(feed, view.search),
  );
  const sign = view.descending ? -1 : 1;
  if (view.sort === "attention") return chosen.sort((one, other) => sign * byAttention(one, other));
  if (view.sort === "name") return chosen.sort((one, other) => sign * byName(one, other));
  return chosen.sort((one, other) => {
    const [left, right] = [figure(one, view.sort), figure(other, view.sort)];
    if (left === null || right === null) return left === right ? byName(one, other) : left === null ? 1 : -1;
    return sign * (left - right) || byName(one, other);
  });
}

/** How many feeds are in each state. */
export function countStates(feeds: readonly Summary[]): Map<FeedState, number> {
  const counts = new Map<FeedState, number>();
  for (const feed of feeds) counts.set(feed.state, (counts.get(feed.state) ?? 0) + 1);
  return counts;
}

/** The feeds after an event of the stream. */
export function apply(feeds: ReadonlyMap<string, Summary>, event: FeedsEvent): Map<string, Summary> {
  const next = event.full ? new Map<string, Summary>() : new Map(feeds);
  for (const feed of event.feeds) next.set(keyOf(feed), feed);
  for (const key of event.removed) next.delete(key);
  return next;
}

/** A page of a list, and how many there are. A page after the last is the last. */
export function paginate<T>(
  items: readonly T[],
  page: number,
  size: number,
): { items: T[]; page: number; pages: number } {
  const pages = Math.max(1, Math.ceil(items.length / size));
  const shown = Math.min(Math.max(1, page), pages);
  return { items: items.slice((shown - 1) * size, shown * size), page: shown, pages };
}
