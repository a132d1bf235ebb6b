import { computed, signal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { request } from "../api/client";
import { follow } from "../api/live";
import type { FeedList, FeedState, FeedsEvent, Summary } from "../api/types";
import { Age, Empty, Figure, Meter, StatePill } from "../components/bits";
import {
  apply,
  countStates,
  isQuiet,
  keyOf,
  lagLevel,
  paginate,
  quotaShare,
  rateOf,
  SORTS,
  type Sort,
  STATES,
  select,
  type View,
} from "../lib/feeds";
import { age, count, duration, number, percent, rate, UNKNOWN } from "../lib/format";
import { feedPath } from "../lib/route";
import { tone } from "../lib/stages";
import { heardTime, now, parameters, setParameters } from "../state";

const PAGE_SIZE = 50;

/** Kept while one feed is looked at, so that the way back shows at once what was known. */
const feeds = signal<ReadonlyMap<string, Summary>>(new Map());
const loaded = signal(false);

const known = computed(() => [...feeds.value.values()]);
const namespacesOf = computed(() => [...new Set(known.value.map((feed) => feed.namespace))].sort());
const countsOf = computed(() => countStates(known.value));

/** What the address says of what is shown, and how. */
const view = computed<View>(() => {
  const given = parameters.value;
  const wanted = (given.get("state") ?? "").split(",");
  return {
    search: given.get("q") ?? "",
    states: STATES.filter((state) => wanted.includes(state)),
    namespace: given.get("namespace") ?? "",
    sort: SORTS.find((sort) => sort === given.get("sort")) ?? "attention",
    descending: given.get("order") === "down",
  };
});
const chosen = computed(() => select(known.value, view.value));

const take = (event: FeedsEvent) => {
  heardTime(event.at);
  feeds.value = apply(feeds.value, event);
  loaded.value = true;
};

const COLUMNS: { title: string; sort: Sort | null; numeric?: boolean; class?: string }[] = [
  { title: "State", sort: "attention" },
  { title: "Feed", sort: "name" },
  { title: "Rate", sort: "rate", numeric: true, class: "wide" },
  { title: "Lag", sort: "lag", numeric: true },
  { title: "Last tick", sort: "tick", numeric: true, class: "wide" },
  { title: "Backlog", sort: "backlog", numeric: true, class: "wide" },
  { title: "Quota today", sort: "quota", numeric: true, class: "wide" },
  { title: "Quarantined", sort: "quarantined", numeric: true, class: "wide" },
];

export function Overview() {
  useEffect(
    () =>
      follow({
        url: "/api/v1/stream",
        events: { feeds: take },
        poll: async (aborted) => {
          const list = await request<FeedList>("/api/v1/feeds", { signal: aborted });
          take({ ...list, full: true, removed: [] });
        },
        silentMilliseconds: 30_000,
      }),
    [],
  );
  useSignalEffect(() => {
    document.title = `${[...feeds.value.values()].filter((feed) => ["error", "warning"].includes(tone(feed.state))).length} in trouble · StockFeed`;
  });

  const given = parameters.value;
  const { search, states, namespace, sort, descending } = view.value;
  const [all, selected, namespaces, counts] = [known.value, chosen.value, namespacesOf.value, countsOf.value];
  const { items, page, pages } = paginate(selected, Number(given.get("page") ?? 1) || 1, PAGE_SIZE);
  const attention = all.filter((feed) => ["error", "warning"].includes(tone(feed.state)));
  const box = useRef<HTMLInputElement>(null);

  useEffect(() => {
    const slash = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select");
      if (event.key !== "/" || typing) return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);

  const toggleState = (state: FeedState) => {
    const next = states.includes(state) ? states.filter((other) => other !== state) : [...states, state];
    setParameters({ state: next.join(","), page: null });
  };
  const sortBy = (next: Sort) => {
    const again = next === sort;
    const first = next === "attention" || next === "name" ? null : "down";
    setParameters({
      sort: next === "attention" ? null : next,
      order: again ? (descending ? null : "down") : first,
      page: null,
    });
  };

  if (!loaded.value)
    return (
      <p class="loading" role="status">
        Asking for the feeds…
      </p>
    );
  const sums = totals(all);
  return (
    <>
      <h1 class="hidden">Feeds</h1>
      <section
        class={`verdict ${attention.length === 0 ? "ok" : attention.some((feed) => tone(feed.state) === "error") ? "error" : "warning"}`}
        aria-label="How the feeds are"
      >
        <p class="headline" role="status">
          {attention.length === 0
            ? "✓ No feed is in trouble"
            : `${count(attention.length, "feed")} of ${number(all.length)} in trouble`}
          {(counts.get("Stalled") ?? 0) > 0 && `, ${number(counts.get("Stalled"))} until a person acts`}
        </p>
        <dl class="figures" data-testid="totals">
          <Figure
            name="Feeds"
            field="feeds"
            value={number(all.length)}
            exact={all.length}
            note={`${number(counts.get("Ready") ?? 0)} ready`}
          />
          <Figure name="Arriving" field="rate" value={rate(sums.rate)} exact={sums.rate} note="messages/s" />
          <Figure
            name="Backlog"
            field="backlog"
            value={number(sums.backlog)}
            exact={sums.backlog}
            note="messages wait"
          />
          <Figure
            name="Quarantined"
            field="quarantined"
            value={number(sums.quarantined)}
            exact={sums.quarantined}
            note="entries"
            look={sums.quarantined > 0 ? "warning" : undefined}
          />
          <Figure
            name="Missing"
            field="missing"
            value={number(sums.missing)}
            exact={sums.missing}
            note="messages"
            look={sums.missing > 0 ? "warning" : undefined}
          />
        </dl>
      </section>

      <search class="filters">
        <label class="search">
          <span class="hidden">Search feeds</span>
          <input
            ref={box}
            type="search"
            value={search}
            placeholder="Search name or trouble ( / )"
            onInput={(event) => setParameters({ q: event.currentTarget.value, page: null })}
          />
        </label>
        {namespaces.length > 1 && (
          <label>
            <span class="hidden">Namespace</span>
            <select
              value={namespace}
              onChange={(event) => setParameters({ namespace: event.currentTarget.value, page: null })}
            >
              <option value="">all namespaces</option>
              {namespaces.map((each) => (
                <option key={each} value={each}>
                  {each}
                </option>
              ))}
            </select>
          </label>
        )}
        <fieldset class="chips">
          <legend class="hidden">States</legend>
          {STATES.filter((state) => counts.has(state) || states.includes(state)).map((state) => (
            <button
              type="button"
              key={state}
              class={`chip ${tone(state)}`}
              aria-pressed={states.includes(state)}
              onClick={() => toggleState(state)}
            >
              {state} <b>{number(counts.get(state) ?? 0)}</b>
            </button>
          ))}
        </fieldset>
        <label class="narrow">
          <span class="hidden">Order</span>
          <select value={sort} onChange={(event) => sortBy(event.currentTarget.value as Sort)}>
            {SORTS.map((each) => (
              <option key={each} value={each}>
                by {each}
              </option>
            ))}
          </select>
        </label>
      </search>

      {items.length === 0 ? (
        <Empty>
          {all.length === 0
            ? "There is no StockFeed in the namespaces that are watched."
            : "No feed fits the search and the filters."}
        </Empty>
      ) : (
        <table class="feeds">
          <caption class="hidden">Feeds, {sort === "attention" ? "what needs attention first" : `by ${sort}`}</caption>
          <thead>
            <tr>
              {COLUMNS.map((column) => (
                <th
                  key={column.title}
                  scope="col"
                  class={`${column.numeric ? "number" : ""} ${column.class ?? ""}`}
                  aria-sort={column.sort === sort ? (descending ? "descending" : "ascending") : undefined}
                >
                  {column.sort && (
                    <button type="button" onClick={() => sortBy(column.sort as Sort)}>
                      {column.title}
                      <span aria-hidden="true">{column.sort === sort ? (descending ? " ↓" : " ↑") : ""}</span>
                    </button>
                  )}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {items.map((feed) => (
              <Row key={keyOf(feed)} feed={feed} />
            ))}
          </tbody>
        </table>
      )}
      <nav class="pages" aria-label="Pages of the list">
        <span>
          {count(selected.length, "feed")}
          {pages > 1 && `, page ${page} of ${pages}`}
        </span>
        {pages > 1 && (
          <>
            <button
              type="button"
              disabled={page <= 1}
              onClick={() => setParameters({ page: page > 2 ? String(page - 1) : null })}
            >
              Previous
            </button>
            <button type="button" disabled={page >= pages} onClick={() => setParameters({ page: String(page + 1) })}>
              Next
            </button>
          </>
        )}
      </nav>
    </>
  );
}

function totals(all: readonly Summary[]) {
  let [rateSum, backlog, quarantined, missing] = [0, 0, 0, 0];
  for (const feed of all) {
    rateSum += feed.arrivalPerSecond ?? 0;
    backlog += feed.backlog ?? 0;
    quarantined += feed.quarantined ?? 0;
    missing += feed.missingMessages ?? 0;
  }
  return { rate: rateSum, backlog, quarantined, missing };
}

function Row({ feed }: { feed: Summary }) {
  const { value, unit } = rateOf(feed);
  const lag = feed.watermark === null ? feed.watermarkLagSeconds : age(feed.watermark, now.value);
  const lagText = duration(lag === null ? null : Math.round(lag));
  const quiet = isQuiet(feed);
  const trouble = feed.cause
    ? `${feed.cause.condition} ${feed.cause.reason}: ${feed.cause.message}`
    : feed.state === "Ready"
      ? null
      : feed.message;
  return (
    <tr class={tone(feed.state)} data-feed={keyOf(feed)}>
      <td>
        <StatePill state={feed.state} />
      </td>
      <th scope="row">
        <a href={feedPath(feed.namespace, feed.name)}>
          <span class="namespace">{feed.namespace}/</span>
          {feed.name}
        </a>
        {trouble && (
          <span class="trouble">
            {trouble}
            {feed.cause && (
              <span class="since">
                {" "}
                · <Age at={feed.cause.since} />
              </span>
            )}
          </span>
        )}
        {feed.paused && <span class="trouble">Paused: the operator leaves it as it is</span>}
        <span class="narrow brief">
          {rate(value, unit)} · {number(feed.backlog)} queued
          {(feed.quarantined ?? 0) > 0 && ` · ${number(feed.quarantined)} quarantined`}
        </span>
      </th>
      <td class="number wide" data-field="rate" data-value={value ?? ""}>
        {rate(value)} <span class="unit">{value === null ? "" : unit}</span>
      </td>
      <td class={`number level-${lagLevel(feed, lag)}`} data-field="lag" data-value={feed.watermark ?? ""}>
        {quiet && !feed.suspended ? <span class="unit">market closed</span> : lagText}
      </td>
      <td class="number wide" data-field="lastTick" data-value={feed.lastTickTime ?? ""}>
        <Age at={feed.lastTickTime} />
      </td>
      <td class="number wide" data-field="backlog" data-value={feed.backlog ?? ""}>
        {number(feed.backlog)}
      </td>
      <td class="number wide" data-field="quota" data-value={feed.quota?.usedToday ?? ""}>
        <QuotaCell feed={feed} />
      </td>
      <td
        class={`number wide ${(feed.quarantined ?? 0) > 0 ? "level-warning" : ""}`}
        data-field="quarantined"
        data-value={feed.quarantined ?? ""}
      >
        {(feed.quarantined ?? 0) > 0 ? (
          <a href={feedPath(feed.namespace, feed.name, "quarantine")}>{number(feed.quarantined)}</a>
        ) : (
          number(feed.quarantined)
        )}
      </td>
    </tr>
  );
}

function QuotaCell({ feed }: { feed: Summary }) {
  const quota = feed.quota;
  if (!quota) return <>{UNKNOWN}</>;
  const share = quotaShare(feed);
  if (share === null) return <span class="unit">{quota.sufficient === false ? "too small" : "unbounded"}</span>;
  const short = quota.sufficient === false || quota.exhaustedAt !== null;
  const words = `${number(quota.usedToday)} of ${number(quota.callsPerDay)} calls used today, ${percent(share)}`;
  return (
    <span class={short ? "level-warning" : ""}>
      <Meter ratio={share} label={words} look={short ? "warning" : "ok"} /> {number(quota.usedToday)}
      {quota.exhaustedAt && <span class="unit"> used up</span>}
    </span>
  );
}
