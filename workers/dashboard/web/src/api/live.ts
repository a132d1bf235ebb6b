// Keeps data fresh: by the server's stream, and while there is none by asking every few seconds.

import { signal } from "@preact/signals";

/** How the page hears of changes: `lost` when neither way works. */
export type Mode = "connecting" | "stream" | "polling" | "lost";

export const mode = signal<Mode>("connecting");
/** When something was heard last, by this browser's clock. */
export const heardAt = signal<number | null>(null);
/** Why nothing is heard. */
export const trouble = signal<string | null>(null);

const POLL_MILLISECONDS = 5_000;
const LONGEST_WAIT_MILLISECONDS = 30_000;

export interface Source {
  /** The stream's address. */
  url: string;
  /** What to do with each event. */
  events: Record<string, (data: never) => void>;
  /** Asks once; rejects when that fails. */
  poll: (signal: AbortSignal) => Promise<void>;
  /** A stream that is silent for so long is asked about. */
  silentMilliseconds: number;
}

/** Follows a source until the function that it returns is called. */
export function follow(source: Source): () => void {
  const ended = new AbortController();
  let stream: EventSource | null = null;
  let failures = 0;
  let lastEvent = Date.now();
  let reconnect: ReturnType<typeof setTimeout> | undefined;
  let asking = false;

  const heard = () => {
    heardAt.value = Date.now();
    trouble.value = null;
  };

  const ask = async () => {
    if (asking || ended.signal.aborted) return;
    asking = true;
    try {
      await source.poll(ended.signal);
      if (ended.signal.aborted) return;
      heard();
      if (mode.value !== "stream") mode.value = "polling";
    } catch (error) {
      if (ended.signal.aborted) return;
      trouble.value = error instanceof Error ? error.message : String(error);
      mode.value = "lost";
    } finally {
      asking = false;
    }
  };

  const disconnect = () => {
    clearTimeout(reconnect);
    stream?.close();
    stream = null;
  };

  const connect = () => {
    disconnect();
    stream = new EventSource(source.url);
    for (const [name, take] of Object.entries(source.events)) {
      stream.addEventListener(name, (event) => {
        failures = 0;
        lastEvent = Date.now();
        mode.value = "stream";
        heard();
        take(JSON.parse((event as MessageEvent<string>).data) as never);
      });
    }
    stream.onerror = () => {
      // The browser would try again by itself, but not after every answer, and meanwhile nothing would be heard.
      disconnect();
      failures += 1;
      if (mode.value === "stream") mode.value = "connecting";
      reconnect = setTimeout(connect, Math.min(1_000 * 2 ** failures, LONGEST_WAIT_MILLISECONDS));
      void ask();
    };
  };

  const timer = setInterval(() => {
    if (document.hidden) return;
    if (!stream || Date.now() - lastEvent > source.silentMilliseconds) {
      lastEvent = stream ? Date.now() : lastEvent;
      void ask();
    }
  }, POLL_MILLISECONDS);

  // Over HTTP/1.1 a browser has six connections to a server, for all of its tabs: those that nobody looks at hold none.
  const look = () => {
    if (document.hidden) {
      disconnect();
      return;
    }
    failures = 0;
    connect();
    void ask();
  };
  document.addEventListener("visibilitychange", look);

  mode.value = "connecting";
  if (document.hidden) void ask();
  else connect();
  return () => {
    ended.abort();
    clearInterval(timer);
    document.removeEventListener("visibilitychange", look);
    disconnect();
  };
}
