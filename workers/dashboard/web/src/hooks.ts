import { useEffect, useRef, useState } from "preact/hooks";
import { request } from "./api/client";

export interface Polled<T> {
  /** The last answer; it stays when a later question fails. */
  data: T | null;
  error: unknown;
  /** When the last answer came, by this browser's clock. */
  at: number | null;
  again: () => void;
}

/** Asks for something now and every few seconds, as long as the page is looked at. */
export function usePoll<T>(path: string | null, seconds: number, onData?: (data: T) => void): Polled<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; error: unknown; at: number | null }>({
    path,
    data: null,
    error: null,
    at: null,
  });
  const [round, setRound] = useState(0);
  const take = useRef(onData);
  take.current = onData;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `round` asks anew
  useEffect(() => {
    if (path === null) return;
    const ended = new AbortController();
    let asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      try {
        const data = await request<T>(path, { signal: ended.signal });
        take.current?.(data);
        setState({ path, data, error: null, at: Date.now() });
      } catch (error) {
        if (ended.signal.aborted) return;
        setState((before) => (before.path === path ? { ...before, error } : { path, data: null, error, at: null }));
      } finally {
        asking = false;
      }
    };
    void ask();
    const timer = setInterval(() => {
      if (!document.hidden) void ask();
    }, seconds * 1_000);
    return () => {
      ended.abort();
      clearInterval(timer);
    };
  }, [path, seconds, round]);
  const again = () => setRound((before) => before + 1);
  // What belongs to another address is not shown under this one.
  return state.path === path ? { ...state, again } : { data: null, error: null, at: null, again };
}
