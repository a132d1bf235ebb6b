// The feed that is looked at: kept fresh for all of its pages.

import { batch, signal } from "@preact/signals";
import { ApiError, feedApi, request } from "./api/client";
import { follow } from "./api/live";
import type { Detail, History, Point } from "./api/types";
import { append } from "./lib/series";
import { heardTime } from "./state";

export const detail = signal<Detail | null>(null);
export const history = signal<History | null>(null);
/** Why there is no feed to show, or that it was deleted. */
export const feedError = signal<unknown>(null);
/** How many observations came: what hangs on one asks anew. */
export const round = signal(0);

/** Follows a feed until the function that it returns is called. */
export function watch(namespace: string, name: string): () => void {
  const key = `${namespace}/${name}`;
  batch(() => {
    detail.value = null;
    history.value = null;
    feedError.value = null;
  });
  const take = (next: Detail) => {
    const seen = next.observation;
    if (seen?.at && seen.ageSeconds !== null) {
      heardTime(new Date(Date.parse(seen.at) + seen.ageSeconds * 1_000).toISOString());
    }
    batch(() => {
      detail.value = next;
      feedError.value = null;
      round.value += 1;
    });
  };
  const readHistory = async (ended?: AbortSignal) => {
    const read = await request<History>(feedApi(namespace, name, "/history"), ended ? { signal: ended } : {});
    history.value = read;
  };
  const stop = follow({
    url: `/api/v1/stream?feed=${encodeURIComponent(key)}`,
    events: {
      feed: take,
      point: (point: Point) => {
        if (history.value) history.value = append(history.value, point);
      },
      gone: () => {
        feedError.value = new ApiError(
          404,
          "Gone",
          `${key} was deleted`,
          "What was stored stays where its deletionPolicy is Retain.",
        );
      },
    },
    poll: async (ended) => {
      try {
        take(await request<Detail>(feedApi(namespace, name), { signal: ended }));
      } catch (error) {
        // The dashboard answers, only this feed cannot be told of: that is no lost connection.
        if (!(error instanceof ApiError) || error.status === 0) throw error;
        feedError.value = error;
        return;
      }
      await readHistory(ended).catch(() => undefined);
    },
    silentMilliseconds: 15_000,
  });
  void readHistory().catch(() => undefined);
  return stop;
}
