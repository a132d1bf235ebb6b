import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { feedApi, request } from "../api/client";
import type { Candle, Candles as CandlesAnswer, Detail } from "../api/types";
import { Age, Empty, ErrorNotice, Panel, Table, Tag, Time } from "../components/bits";
import { CandleChart } from "../components/CandleChart";
import { describe, direction, merge } from "../lib/candles";
import { count, fullTime, number } from "../lib/format";
import { query } from "../lib/route";
import { parameters, setParameters, zone } from "../state";

const EVERY_MILLISECONDS = 3_000;
const AT_FIRST = 300;
/** Candles in the table below the chart. */
const ROWS = 30;
const REVISED_ROWS = 10;
/** Late ticks change candles that are not the last one, so so many are asked for again each time. */
const AGAIN = 60;

interface State {
  view: string;
  answer: CandlesAnswer | null;
  candles: Candle[];
  error: unknown;
}

/** Reads candles, and those that changed every few seconds. */
function useCandles(feed: Detail, symbol: string, window: string) {
  const view = `${feed.namespace}/${feed.name} ${symbol} ${window}`;
  const [state, setState] = useState<State>({ view, answer: null, candles: [], error: null });
  const latest = useRef<State>(state);
  latest.current = state;
  const { namespace, name } = feed;

  useEffect(() => {
    const ended = new AbortController();
    let asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      const known = latest.current.view === view ? latest.current.candles : [];
      const from = known.length > 0 ? (known.at(-AGAIN) ?? known[0])?.start : undefined;
      try {
        const path = feedApi(namespace, name, `/candles${query({ symbol, window, from, limit: AT_FIRST })}`);
        const answer = await request<CandlesAnswer>(path, { signal: ended.signal });
        setState((before) => ({
          view,
          answer,
          error: null,
          candles: merge(before.view === view ? before.candles : [], answer.candles),
        }));
      } catch (error) {
        if (ended.signal.aborted) return;
        setState((before) =>
          before.view === view ? { ...before, error } : { view, answer: null, candles: [], error },
        );
      } finally {
        asking = false;
      }
    };
    void ask();
    const timer = setInterval(() => {
      if (!document.hidden) void ask();
    }, EVERY_MILLISECONDS);
    return () => {
      ended.abort();
      clearInterval(timer);
    };
  }, [view, namespace, name, symbol, window]);

  const earlier = async () => {
    const first = latest.current.candles[0];
    if (!first) return 0;
    const path = feedApi(namespace, name, `/candles${query({ symbol, window, to: first.start, limit: AT_FIRST })}`);
    const answer = await request<CandlesAnswer>(path);
    setState((before) =>
      before.view === view ? { ...before, candles: merge(answer.candles, before.candles) } : before,
    );
    return answer.candles.length;
  };
  return { ...(state.view === view ? state : { view, answer: null, candles: [], error: null }), earlier };
}

export default function Candles({ feed }: { feed: Detail }) {
  const symbols = feed.spec?.symbols ?? [];
  const windows = feed.spec?.windows ?? [];
  const symbol = parameters.value.get("symbol") ?? symbols[0] ?? "";
  // Without one the server takes the narrowest.
  const asked = parameters.value.get("window") ?? "";
  const { answer, candles, error, view, earlier } = useCandles(feed, symbol, asked);
  const window = answer?.window ?? asked;
  const pointed = useSignal<Candle | null>(null);
  const noMore = useSignal<string | null>(null);
  const earlierError = useSignal<unknown>(null);
  const choice = useMemo(
    () => [...new Set([...(answer?.symbols ?? symbols), symbol])].filter(Boolean),
    [answer, symbols, symbol],
  );
  const last = candles.at(-1);
  const shown = pointed.value ?? last ?? null;
  const revised = candles.filter((candle) => candle.revision > 0);
  const step = (by: number) => {
    const next = choice[choice.indexOf(symbol) + by];
    if (next) setParameters({ symbol: next });
  };
  if (!symbol)
    return (
      <Panel title="Candles">
        <Empty>The feed names no symbol.</Empty>
      </Panel>
    );
  return (
    <>
      <Panel
        title={`Candles of ${symbol}`}
        aside={
          answer && (
            <span class="muted">
              watermark <Time at={answer.watermark} />
            </span>
          )
        }
      >
        <div class="filters">
          <button
            type="button"
            aria-label="Previous symbol"
            disabled={choice.indexOf(symbol) <= 0}
            onClick={() => step(-1)}
          >
            ‹
          </button>
          <label>
            <span class="hidden">Symbol</span>
            <select value={symbol} onChange={(event) => setParameters({ symbol: event.currentTarget.value })}>
              {choice.map((each) => (
                <option key={each} value={each}>
                  {each}
                </option>
              ))}
            </select>
          </label>
          <button
            type="button"
            aria-label="Next symbol"
            disabled={choice.indexOf(symbol) >= choice.length - 1}
            onClick={() => step(1)}
          >
            ›
          </button>
          <fieldset class="chips">
            <legend class="hidden">Window</legend>
            {(answer?.windows ?? windows).map((each) => (
              <button
                type="button"
                key={each}
                class="chip"
                aria-pressed={each === window}
                onClick={() => setParameters({ window: each })}
              >
                {each}
              </button>
            ))}
          </fieldset>
          <span class="muted legend-line">
            <i class="key revised" /> revised by late ticks <i class="key open" /> still open
          </span>
        </div>
        {error !== null && (
          <ErrorNotice
            error={error}
            what={
              candles.length > 0
                ? "Candles cannot be read; what is shown is what was read last"
                : "Candles cannot be read"
            }
          />
        )}
        {shown && <Reading candle={shown} latest={shown === last} />}
        {candles.length > 0 ? (
          <CandleChart
            candles={candles}
            view={view}
            label={`Candles of ${symbol}, ${window} wide: ${count(candles.length, "candle")}, ${count(revised.length, "revised one")}; the last closes at ${last?.close ?? "nothing"}. The table below has the latest.`}
            onPoint={(candle) => {
              pointed.value = candle;
            }}
          />
        ) : answer ? (
          <Empty>
            No candle of {symbol}, {window} wide, was stored yet.
          </Empty>
        ) : (
          error === null && (
            <p class="loading" role="status">
              Reading candles…
            </p>
          )
        )}
        <div class="below-chart">
          {candles.length > 0 && (
            <button
              type="button"
              disabled={noMore.value === view}
              onClick={() => {
                earlier().then(
                  (found) => {
                    if (found === 0) noMore.value = view;
                    earlierError.value = null;
                  },
                  (failed: unknown) => {
                    earlierError.value = failed;
                  },
                );
              }}
            >
              {noMore.value === view ? "There are no earlier ones" : "Earlier"}
            </button>
          )}
          {earlierError.value !== null && (
            <ErrorNotice error={earlierError.value} what="Earlier candles cannot be read" />
          )}
          <span class="muted">
            Chart by{" "}
            <a href="https://www.tradingview.com/" target="_blank" rel="noreferrer">
              TradingView Lightweight Charts™
            </a>
            , © TradingView, Inc.
          </span>
        </div>
      </Panel>
      {revised.length > 0 && (
        <Panel title="Revised by late ticks">
          <CandleTable label="Revised candles, newest first" candles={revised.slice(-REVISED_ROWS).reverse()} />
        </Panel>
      )}
      {candles.length > 0 && (
        <Panel title="The latest">
          <CandleTable label="The latest candles, newest first" candles={candles.slice(-ROWS).reverse()} />
        </Panel>
      )}
    </>
  );
}

/** The candle that is pointed at, else the last one, in figures. */
function Reading({ candle, latest }: { candle: Candle; latest: boolean }) {
  return (
    <p class={`reading ${direction(candle)}`} data-start={candle.start}>
      <span class="muted">{fullTime(candle.start, zone.value).replace(/\.\d+/, "")}</span> O <b>{candle.open}</b> H{" "}
      <b>{candle.high}</b> L <b>{candle.low}</b> C <b class="close">{candle.close}</b> <span class="muted">volume</span>{" "}
      <b>{number(candle.volume)}</b>{" "}
      <span class="muted">
        {count(candle.ticks, "tick")}, {describe(candle)}
        {latest && (
          <>
            , changed <Age at={candle.updatedAt} />
          </>
        )}
      </span>
    </p>
  );
}

function CandleTable({ label, candles }: { label: string; candles: Candle[] }) {
  return (
    <Table label={label}>
      <thead>
        <tr>
          <th scope="col">Begins</th>
          <th scope="col" class="number">
            Open
          </th>
          <th scope="col" class="number">
            High
          </th>
          <th scope="col" class="number">
            Low
          </th>
          <th scope="col" class="number">
            Close
          </th>
          <th scope="col" class="number">
            Volume
          </th>
          <th scope="col" class="number">
            Ticks
          </th>
          <th scope="col">State</th>
          <th scope="col">Changed</th>
        </tr>
      </thead>
      <tbody>
        {candles.map((candle) => (
          <tr
            key={candle.start}
            data-candle={candle.start}
            data-ohlc={[candle.open, candle.high, candle.low, candle.close].join(" ")}
            data-revision={candle.revision}
          >
            <th scope="row">
              <Time at={candle.start} />
            </th>
            <td class="number">{candle.open}</td>
            <td class="number">{candle.high}</td>
            <td class="number">{candle.low}</td>
            <td class={`number ${direction(candle)}`}>{candle.close}</td>
            <td class="number">{number(candle.volume)}</td>
            <td class="number">{number(candle.ticks)}</td>
            <td>{candle.revision > 0 ? <Tag look="warning">{describe(candle)}</Tag> : describe(candle)}</td>
            <td>
              <Time at={candle.updatedAt} />
            </td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
