// Made-up feeds and candles. The same each time, but for the clock.

const NAMES = ["tech", "banks", "energy", "crypto", "forex", "metals", "retail", "pharma", "autos", "chips"];
const NAMESPACES = ["markets", "research", "trading-eu", "trading-us"];

/** Numbers from 0 to 1 that follow from a seed. */
export function noise(seed) {
  let state = (seed * 2654435761) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export const before = (now, seconds) => new Date(now.getTime() - seconds * 1000).toISOString();

const STARTED = Date.now();

const TROUBLES = {
  energy: {
    state: "Stalled",
    cause: {
      condition: "SourceReady",
      reason: "AuthenticationFailed",
      message: "the source refuses the API key in Secret fmp-key; put a valid one there",
      needsPerson: true,
    },
    ago: 760,
  },
  banks: {
    state: "Failing",
    cause: {
      condition: "ProcessorReady",
      reason: "NotProgressing",
      message:
        "partition 2 has 18,204 messages that nobody commits; processor banks-processor-6b8c-x2x9d cannot reach the database",
      needsPerson: false,
    },
    ago: 95,
  },
};

function one(index) {
  const base = NAMES[index % NAMES.length];
  const round = Math.floor(index / NAMES.length);
  const name = round === 0 ? base : `${base}-${round}`;
  const namespace = index < NAMES.length ? "markets" : NAMESPACES[index % NAMESPACES.length];
  const random = noise(index + 1);
  const speed = Math.round(random() * 900) / 10 + 1;
  const luck = random();
  const trouble = TROUBLES[name];
  const state =
    trouble?.state ??
    (index < NAMES.length
      ? "Ready"
      : luck < 0.006
        ? "Failing"
        : luck < 0.02
          ? "Progressing"
          : luck < 0.05
            ? "Suspended"
            : "Ready");
  const since = STARTED - (trouble?.ago ?? 3_000 * luck) * 1000;
  const closed = index % 9 === 8;
  return (now) => {
    const late = trouble
      ? (now.getTime() - since) / 1000
      : closed
        ? 30_000
        : 3 + ((now.getTime() / 1000 + index * 7) % 6);
    const silent = state === "Suspended";
    const cause = trouble
      ? { ...trouble.cause, since: new Date(since).toISOString() }
      : state === "Failing"
        ? {
            condition: "BrokerReady",
            reason: "Unreachable",
            message: "failed to read the virtual host: connection refused",
            since: new Date(since).toISOString(),
            needsPerson: false,
          }
        : null;
    const uid = `0b0c8d3a-5f5b-4d6e-9a7a-${String(index).padStart(12, "0")}`;
    return {
      id: uid.replaceAll("-", ""),
      uid,
      namespace,
      name,
      createdAt: before(now, 600_000),
      state,
      message:
        cause?.message ??
        {
          Ready: "all is as declared and data flows",
          Suspended: "drained: nothing is polled and nothing is queued",
          Progressing: "rolling out new images",
        }[state],
      cause,
      symbols: 12,
      interval: "5s",
      partitionCount: 4,
      processorCount: { ready: name === "banks" ? 1 : 2, wanted: 2 },
      backlog: silent ? 0 : name === "banks" ? 18_204 : Math.round((Math.sin(now.getTime() / 9000 + index) + 1) * 20),
      arrivalPerSecond: silent ? 0 : cause ? 0 : speed,
      ticksPerSecond: index < 3 ? (cause ? 0 : speed) : null,
      watermark: silent ? null : before(now, late),
      watermarkLagSeconds: silent ? null : late,
      lastTickTime: silent ? before(now, 86_000) : before(now, Math.max(0, late - 2)),
      lastTickAgeSeconds: silent ? 86_000 : Math.max(0, late - 2),
      quota:
        index % 5 === 4
          ? null
          : {
              sufficient: name !== "energy",
              message: "12 symbols in one call every 5 s",
              callsPerDay: name === "forex" ? 250 : 100_000,
              projectedCallsPerDay: 17_280,
              usedToday: name === "forex" ? 250 : 7_412 + index,
              minimumInterval: "5m45s",
              effectiveInterval: "5s",
              exhaustedAt: name === "forex" ? before(now, 1_800) : null,
              feeds: 2,
            },
      market: { hours: "Regular", open: !closed, nextOpen: closed ? before(now, -40_000) : null },
      quarantined: name === "crypto" ? 41 : index % 17 === 0 ? 3 : 0,
      missingMessages: name === "metals" ? 12 : 0,
      suspended: silent,
      paused: name === "retail",
      observed: index < 3,
    };
  };
}

export const all = (count) => Array.from({ length: count }, (_, index) => one(index));

export function find(feeds, namespace, name, now) {
  return feeds.map((feed) => feed(now)).find((feed) => feed.namespace === namespace && feed.name === name);
}

export function totals(feeds) {
  const sum = (key) => feeds.reduce((total, feed) => total + (feed[key] ?? 0), 0);
  const of = (state) => feeds.filter((feed) => feed.state === state).length;
  return {
    feeds: feeds.length,
    ready: of("Ready"),
    notReady: feeds.length - of("Ready") - of("Suspended"),
    suspended: of("Suspended"),
    stalled: of("Stalled"),
    backlog: sum("backlog"),
    quarantined: sum("quarantined"),
    missingMessages: sum("missingMessages"),
  };
}

export const SYMBOLS = ["AAPL", "AMZN", "AVGO", "CRM", "GOOG", "INTC", "META", "MSFT", "NFLX", "NVDA", "ORCL", "TSLA"];
export const WINDOWS = ["1m", "5m", "1h", "1d"];
const WIDTHS = { "1m": 60, "5m": 300, "1h": 3_600, "1d": 86_400 };

export function candles(parameters, now) {
  const symbol = parameters.get("symbol");
  const window = parameters.get("window") ?? "1m";
  const width = WIDTHS[window] * 1000;
  const limit = Number(parameters.get("limit") ?? 300);
  const to = parameters.has("to") ? Date.parse(parameters.get("to")) : now.getTime();
  const from = parameters.has("from") ? Date.parse(parameters.get("from")) : to - limit * width;
  const watermark = now.getTime() - 6_000;
  const found = [];
  for (let start = Math.ceil(from / width) * width; start < to; start += width) {
    const random = noise(Math.floor(start / width) + symbol.charCodeAt(0) * 977 + symbol.charCodeAt(1));
    const level = (at) => 228 + 9 * Math.sin(at / width / 37) + 3 * Math.sin(at / width / 11);
    const [open, close] = [level(start - width) + random() * 0.8, level(start) + random() * 0.8];
    const final = start + width <= watermark;
    found.push({
      start: new Date(start).toISOString(),
      end: new Date(start + width).toISOString(),
      open: open.toFixed(2),
      high: (Math.max(open, close) + random()).toFixed(2),
      low: (Math.min(open, close) - random()).toFixed(2),
      close: close.toFixed(2),
      volume: Math.round(random() * 60_000),
      ticks: 12,
      averagePrice: ((open + close) / 2).toFixed(3),
      revision: final && random() < 0.04 ? 1 + Math.floor(random() * 3) : 0,
      final,
      updatedAt: new Date(Math.min(start + width, now.getTime())).toISOString(),
    });
  }
  const kept = found.slice(-limit);
  return {
    symbol,
    window,
    from: kept[0]?.start ?? null,
    to: new Date(to).toISOString(),
    symbols: SYMBOLS,
    windows: WINDOWS,
    watermark: new Date(watermark).toISOString(),
    truncated: found.length > limit,
    candles: kept,
  };
}
