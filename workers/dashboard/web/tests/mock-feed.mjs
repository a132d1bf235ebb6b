// What the mock says of one feed beyond its summary.

import { before, noise, SYMBOLS, WINDOWS } from "./mock-feeds.mjs";

const condition = (now, type, status, reason, message, bad = false, since = 5_000) => ({
  type,
  status,
  reason,
  message,
  since: before(now, since),
  bad,
  needsPerson: bad,
});

export function detail(feed, now) {
  const sick = feed.name === "banks";
  const { cause } = feed;
  const stage = (type, reason, message) =>
    cause?.condition === type
      ? {
          ...condition(now, type, "False", cause.reason, cause.message, true),
          since: cause.since,
          needsPerson: cause.needsPerson,
        }
      : condition(now, type, "True", reason, message);
  const pods = [`${feed.name}-processor-6b8c-x2x9d`, `${feed.name}-processor-6b8c-mm4kq`];
  const time = (index) =>
    sick && index % 2 === 0
      ? { busy: 0.3, idle: 0.08, backpressured: 0.62 }
      : { busy: 0.21, idle: 0.75, backpressured: 0.04 };
  const rates = feed.cause ? 0 : 10.1;
  const partitions = [0, 1, 2, 3].map((index) => ({
    id: `1.${index}`,
    generation: 1,
    partition: index,
    processor: pods[index % 2],
    claimedAt: before(now, 4_000),
    checkpoint: 4_711 + index + (Math.floor(now.getTime() / 2000) % 100_000),
    watermark: feed.watermark,
    watermarkLagSeconds: feed.watermarkLagSeconds,
    lastEventTime: feed.lastTickTime,
    waitingForMissing: feed.name === "metals" && index === 1,
    queue: { ready: sick && index === 2 ? 18_204 : index, consumers: 2, ageSeconds: 4 },
    prefetch: 500,
    time: time(index),
    rates: { messagesPerSecond: rates, ticksPerSecond: rates, bytesPerSecond: rates * 205 },
    totals: { messages: 1_000, ticks: 1_000, duplicates: 0, bytes: 204_800, late: index, quarantined: 0, gaps: 0 },
  }));
  const latency = (p50, p90, p95, p99) =>
    feed.cause ? { count: 0, p50: null, p90: null, p95: null, p99: null } : { count: 1_200, p50, p90, p95, p99 };
  const failing = cause?.condition === "SourceReady";
  return {
    ...feed,
    observed: true,
    ticksPerSecond: feed.cause ? 0 : 40.5,
    observation: {
      at: before(now, 1),
      ageSeconds: 1,
      stale: false,
      problems: sick
        ? [{ source: `processor ${pods[0]}`, message: "does not answer within 2 s", since: before(now, 60) }]
        : [],
    },
    generation: 7,
    observedGeneration: 7,
    spec: {
      symbols: SYMBOLS,
      source: { kind: "fmp", url: "https://financialmodelingprep.com/stable", plan: "Premium" },
      interval: "5s",
      marketHours: "Regular",
      duplicates: "Skip",
      partitions: 4,
      replicas: { min: 1, max: 4 },
      windows: WINDOWS,
      outOfOrderness: "5s",
      allowedLateness: "1h",
      retention: "90d",
      deletionPolicy: "Retain",
      suspend: feed.suspended,
    },
    conditions: [
      condition(now, "Ready", cause ? "False" : "True", cause?.reason ?? "Ready", feed.message, cause !== null),
      stage("SourceReady", "Answering", "the source answered"),
      stage("BrokerReady", "AsDeclared", "all is there"),
      stage("SchemaReady", "AsDeclared", "version 9"),
      failing
        ? condition(now, "ProducerReady", "False", "Failed", "nothing was polled since", true)
        : stage("ProducerReady", "Available", "connected"),
      stage("ProcessorReady", "Available", "each queue has a consumer"),
      condition(
        now,
        "QuotaSufficient",
        feed.quota?.sufficient === false ? "False" : "True",
        "WithinPlan",
        feed.quota?.message ?? "",
        feed.quota?.sufficient === false,
      ),
      condition(now, "Stalled", feed.state === "Stalled" ? "True" : "False", "Settled", "", feed.state === "Stalled"),
    ],
    queues: [{ generation: 1, partitions: 4 }],
    release: {
      state: "Good",
      since: before(now, 90_000),
      message: "",
      producer: {
        image: "localhost/stockfeed/producer:1f2e3d",
        good: "localhost/stockfeed/producer:1f2e3d",
        failed: null,
      },
      processor: {
        image: "localhost/stockfeed/processor:9c8b7a",
        good: "localhost/stockfeed/processor:9c8b7a",
        failed: null,
      },
    },
    producer: {
      pod: `${feed.name}-producer-5d5c-abcde`,
      ready: true,
      startedAt: before(now, 90_000),
      restarts: 0,
      broker: { connected: true, reason: "Ok", message: null, heldMessages: 0 },
      source: {
        ready: !failing,
        problem: failing ? "401: Invalid API key" : null,
        lastAttempt: before(now, 3),
        lastSuccess: before(now, failing ? 760 : 3),
        consecutiveFailures: failing ? 152 : 0,
        pausedUntil: null,
        bound: feed.watermark,
      },
      lastExit: null,
      spool: { messages: 0, bytes: 0, maxBytes: 268_435_456, full: false },
      rates: { messagesPerSecond: failing ? 0 : 40.5, ticksPerSecond: failing ? 0 : 40.5, requestsPerSecond: 0.2 },
      requestSeconds: { count: 100, p50: 0.08, p95: 0.2, p99: 0.4 },
    },
    processors: pods.map((pod, index) => ({
      pod,
      node: `node-${index + 1}`,
      address: `10.0.0.${7 + index}`,
      phase: "Running",
      ready: !(sick && index === 0),
      startedAt: before(now, 8_000),
      restarts: sick && index === 0 ? 3 : 0,
      lastExit:
        sick && index === 0 ? { reason: "OOMKilled", exitCode: 137, at: before(now, 400), message: null } : null,
      answers: !(sick && index === 0),
      version: "0.1.0",
      brokerConnected: true,
      databaseOk: !(sick && index === 0),
      queues: 4,
      consuming: 4,
      partitions: partitions.filter((partition) => partition.processor === pod).map(({ id }) => id),
      time: time(index),
      rates: { messagesPerSecond: rates * 2, ticksPerSecond: rates * 2, bytesPerSecond: 4_100 },
    })),
    partitions,
    latency: {
      fromEvent: latency(0.4, 0.9, 1, 2.1),
      fromPublish: latency(0.004, 0.008, 0.01, 0.02),
      commit: latency(0.002, 0.004, 0.005, 0.01),
    },
  };
}

export function graph(feed, now) {
  const seen = detail(feed, now);
  const level = (ratio) => (ratio <= 0.1 ? "ok" : ratio <= 0.5 ? "low" : "high");
  const edge = (from, to, ticks, backpressure) => ({
    id: `${from}>${to}`,
    from,
    to,
    messagesPerSecond: null,
    ticksPerSecond: ticks,
    backpressure,
    level: backpressure === null ? null : level(backpressure),
  });
  const node = (id, kind, layer, title, status, said, figures) => ({
    id,
    kind,
    layer,
    title,
    status,
    detail: said,
    figures,
  });
  const failing = seen.producer.source.problem !== null;
  return {
    at: before(now, 1),
    ageSeconds: 1,
    stale: false,
    nodes: [
      node(
        "source",
        "source",
        0,
        "financialmodelingprep.com",
        failing ? "error" : "ok",
        failing ? "401: Invalid API key" : null,
        { requestsPerSecond: 0.2, requestSecondsP95: 0.2 },
      ),
      node(
        "producer",
        "producer",
        1,
        seen.producer.pod,
        failing ? "warning" : "ok",
        failing ? "nothing to publish" : null,
        { messagesPerSecond: seen.producer.rates.messagesPerSecond, spoolMessages: 0 },
      ),
      ...seen.partitions.map((partition) =>
        node(
          `queue:${partition.id}`,
          "queue",
          2,
          `partition ${partition.partition}`,
          partition.queue.ready > 1_000 ? "warning" : "ok",
          null,
          {
            ready: partition.queue.ready,
            consumers: 2,
            watermarkLagSeconds: partition.watermarkLagSeconds,
          },
        ),
      ),
      ...seen.processors.map((processor) =>
        node(
          `processor:${processor.pod}`,
          "processor",
          3,
          processor.pod,
          processor.databaseOk ? "ok" : "error",
          processor.databaseOk ? null : "cannot use the database",
          {
            ...processor.time,
            watermarkLagSeconds: seen.watermarkLagSeconds,
          },
        ),
      ),
      node("database", "database", 4, `schema ${feed.namespace}_${feed.name}`, "ok", null, { commitSecondsP95: 0.005 }),
    ],
    edges: [
      edge("source", "producer", seen.producer.rates.ticksPerSecond, null),
      ...seen.partitions.map((partition) => edge("producer", `queue:${partition.id}`, null, null)),
      ...seen.partitions.map((partition) =>
        edge(
          `queue:${partition.id}`,
          `processor:${partition.processor}`,
          partition.rates.ticksPerSecond,
          partition.time.backpressured,
        ),
      ),
      ...seen.processors.map((processor) =>
        edge(`processor:${processor.pod}`, "database", processor.rates.ticksPerSecond, processor.time.backpressured),
      ),
    ],
  };
}

export function checkpoints(feed, now) {
  const random = noise(5);
  const list = Array.from({ length: 100 }, (_, index) => ({
    id: 4_811 - Math.floor(index / 4),
    partition: `1.${index % 4}`,
    processor: `${feed.name}-processor-6b8c-x2x9d`,
    completedAt: before(now, index * 0.7),
    durationSeconds: 0.001 + random() * 0.004 + (index === 37 ? 0.02 : 0),
    messages: 10,
    duplicates: 0,
    ticks: 10,
    candles: 40,
    late: index === 12 ? 2 : 0,
    quarantined: 0,
    bytes: 2_048,
  }));
  return {
    at: before(now, 1),
    ageSeconds: 1,
    stale: false,
    mode: "exactly_once",
    totals: { completed: 18_412, failed: 2 },
    summary: {
      count: 100,
      durationSeconds: { min: 0.001, avg: 0.002, p50: 0.002, p90: 0.003, p95: 0.004, p99: 0.01, max: 0.02 },
      bytes: { min: 200, avg: 2_048, p50: 2_000, p90: 4_000, p95: 4_100, p99: 5_000, max: 8_000 },
      ticks: { min: 1, avg: 10, p50: 9, p90: 20, p95: 22, p99: 40, max: 50 },
    },
    partitions: [0, 1, 2, 3].map((index) => ({
      id: `1.${index}`,
      checkpoint: 4_811,
      processor: `${feed.name}-processor-6b8c-x2x9d`,
      completedAt: before(now, index * 0.7),
    })),
    checkpoints: list,
  };
}

export function events(feed, now) {
  const event = (ago, type, reason, message, count = 1) => ({
    at: before(now, ago),
    firstAt: before(now, ago + 100),
    count,
    type,
    reason,
    action: "Reconcile",
    message,
    regarding: `StockFeed/${feed.name}`,
  });
  const trouble = feed.cause ? [event(40, "Warning", feed.cause.reason, feed.cause.message, 9)] : [];
  return {
    events: [
      ...trouble,
      event(1_500, "Normal", "ScaledOut", "from 1 to 2: 4,210 messages wait, 900 a second arrive"),
      event(3_000, "Normal", "Created", "schema and queues were made"),
    ],
  };
}

export function errors(feed, now) {
  const { cause } = feed;
  const list = [];
  if (cause) {
    list.push({
      kind: "condition",
      at: cause.since,
      component: cause.condition,
      cause: cause.reason,
      message: cause.message,
      active: true,
      count: null,
      needsPerson: cause.needsPerson,
    });
  }
  if (feed.name === "banks") {
    const pod = "banks-processor-6b8c-x2x9d";
    list.push(
      {
        kind: "restart",
        at: before(now, 400),
        component: pod,
        cause: "OOMKilled",
        message: "exit code 137",
        active: false,
        count: 3,
        needsPerson: false,
      },
      {
        kind: "processor",
        at: before(now, 20),
        component: `${pod} partition 1.2`,
        cause: "connection refused",
        message: "failed to commit: could not connect to the database: connection refused",
        active: true,
        count: null,
        needsPerson: false,
      },
    );
  }
  if (feed.name === "energy") {
    list.push({
      kind: "producer",
      at: before(now, 3),
      component: "source",
      cause: "AuthenticationFailed",
      message: "401: Invalid API key",
      active: true,
      count: 152,
      needsPerson: true,
    });
  }
  return { at: before(now, 1), ageSeconds: 1, stale: false, errors: list };
}

export function quarantine(feed, now, reason) {
  const kinds =
    feed.quarantined === 0
      ? []
      : [
          ["invalid_price", "price is not above 0"],
          ["not_json", "expected value at line 1 column 1"],
          ["unknown_symbol", "the feed does not name it"],
        ];
  const entries = kinds.flatMap(([name, said], index) => ({
    id: 7 + index,
    receivedAt: before(now, 100 * (index + 1)),
    reason: name,
    detail: said,
    publisher: "0193a1b2-0000-7000-8000-000000000000",
    sequence: 812 + index,
    raw: index === 1 ? "<script>alert('not run')</script>" : '{"symbol":"AAPL","price":"-1"}',
    rawTruncated: false,
    releasedAt: null,
    queue: null,
  }));
  return {
    reasons: kinds.map(([name]) => ({ reason: name, entries: 1 })),
    truncated: false,
    entries: entries.filter((entry) => reason === null || entry.reason === reason),
  };
}

export function scaling(feed, now) {
  return {
    replicas: { min: 1, max: 4, ready: feed.processorCount.ready, wanted: feed.processorCount.wanted },
    current: {
      replicas: 2,
      wanted: 2,
      reason: "Steady",
      message: "two processors are busy for 30 % of their time; one would be for 60 %",
      backlog: feed.backlog,
      arrivalPerSecond: feed.arrivalPerSecond,
      perReplicaPerSecond: 900,
      busyRatio: 0.3,
      catchUpSeconds: 0,
      decidedAt: before(now, 12),
      dryRun: false,
    },
    decisions: [
      {
        at: before(now, 1_500),
        reason: "ScaledOut",
        message: "from 1 to 2: 4,210 messages wait and 900 a second arrive; one processor commits 620 a second",
      },
      {
        at: before(now, 3_200),
        reason: "ScaledIn",
        message: "from 3 to 1: one processor would be busy for 12 % of its time",
      },
    ],
  };
}

function values(feed, at) {
  const wave = (period, size, base) => base + size * Math.sin(at / 1000 / period);
  const down = feed.cause && at > Date.parse(feed.cause.since);
  const lag = down ? (at - Date.parse(feed.cause.since)) / 1000 : wave(61, 1.4, 6);
  const none = (value) => (down ? null : value);
  return {
    messagesPerSecond: down ? 0 : wave(120, 6, 40),
    ticksPerSecond: down ? 0 : wave(120, 6, 40),
    bytesPerSecond: down ? 0 : 8_200,
    backlog: feed.name === "banks" && down ? lag * 190 : Math.round(wave(30, 10, 12)),
    watermarkLagSeconds: lag,
    latencyFromEventP50: none(wave(90, 0.1, 0.4)),
    latencyFromEventP95: none(wave(80, 0.2, 1)),
    latencyFromEventP99: none(wave(70, 0.5, 2.1)),
    latencyFromPublishP50: none(0.004),
    latencyFromPublishP95: none(0.01),
    latencyFromPublishP99: none(0.02),
    checkpointSecondsP50: none(wave(40, 0.0005, 0.002)),
    checkpointSecondsP95: none(wave(50, 0.001, 0.005)),
    checkpointSecondsMax: none(wave(23, 0.006, 0.014)),
    busyRatio: down ? 0 : wave(100, 0.1, 0.25),
    backpressuredRatio: feed.name === "banks" && down ? 0.62 : wave(45, 0.02, 0.03),
    processorsReady: feed.processorCount.ready,
  };
}

export const point = (feed, now) => ({ time: now.toISOString(), values: values(feed, now.getTime()) });

export function history(feed, now) {
  const times = Array.from({ length: 720 }, (_, index) => now.getTime() - (719 - index) * 5_000).filter(
    (_, index) => index < 200 || index > 260,
  );
  const points = times.map((at) => values(feed, at));
  const series = Object.fromEntries(Object.keys(points[0]).map((name) => [name, points.map((each) => each[name])]));
  return { everySeconds: 5, capacity: 720, times: times.map((at) => new Date(at).toISOString()), series };
}
