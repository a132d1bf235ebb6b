// What docs/dashboard-api.md writes down. A key is always there; what is not known is null.

export type FeedState =
  | "Ready"
  | "Progressing"
  | "Failing"
  | "Stalled"
  | "Draining"
  | "Suspended"
  | "Deleting"
  | "Unknown"
  | "Unreadable";

export interface Cause {
  condition: string;
  reason: string;
  message: string;
  since: string;
  needsPerson: boolean;
}

export interface Quota {
  sufficient: boolean | null;
  message: string | null;
  callsPerDay: number | null;
  projectedCallsPerDay: number;
  usedToday: number | null;
  minimumInterval: string;
  effectiveInterval: string | null;
  exhaustedAt: string | null;
  feeds: number | null;
}

export interface Market {
  hours: string;
  open: boolean;
  nextOpen: string | null;
}

export interface Summary {
  id: string;
  uid: string;
  namespace: string;
  name: string;
  createdAt: string | null;
  state: FeedState;
  message: string;
  cause: Cause | null;
  symbols: number | null;
  interval: string | null;
  partitionCount: number | null;
  processorCount: { ready: number; wanted: number } | null;
  backlog: number | null;
  arrivalPerSecond: number | null;
  ticksPerSecond: number | null;
  watermark: string | null;
  watermarkLagSeconds: number | null;
  lastTickTime: string | null;
  lastTickAgeSeconds: number | null;
  quota: Quota | null;
  market: Market | null;
  quarantined: number | null;
  missingMessages: number | null;
  suspended: boolean;
  paused: boolean;
  observed: boolean;
}

export interface Totals {
  feeds: number;
  ready: number;
  notReady: number;
  suspended: number;
  stalled: number;
  backlog: number;
  quarantined: number;
  missingMessages: number;
}

export interface FeedList {
  at: string;
  totals: Totals;
  feeds: Summary[];
}

/** The event `feeds` of the stream. */
export interface FeedsEvent extends FeedList {
  full: boolean;
  removed: string[];
}

export interface Problem {
  source: string;
  message: string;
  since: string;
}

export interface Freshness {
  at: string | null;
  ageSeconds: number | null;
  stale: boolean;
}

export interface Observation extends Freshness {
  problems: Problem[];
}

export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  reason: string;
  message: string;
  since: string;
  bad: boolean;
  needsPerson: boolean;
}

export interface Percentiles {
  count: number;
  p50: number | null;
  p90?: number | null;
  p95: number | null;
  p99: number | null;
}

export interface Shares {
  busy: number;
  idle: number;
  backpressured: number;
}

export interface Rates {
  messagesPerSecond: number | null;
  ticksPerSecond: number | null;
  bytesPerSecond?: number | null;
  requestsPerSecond?: number | null;
}

export interface Exit {
  reason: string | null;
  exitCode: number;
  at: string | null;
  message: string | null;
}

export interface Producer {
  pod: string;
  ready: boolean;
  startedAt: string | null;
  restarts: number;
  lastExit: Exit | null;
  broker: { connected: boolean; reason: string; message: string | null; heldMessages: number } | null;
  source: {
    ready: boolean;
    problem: string | null;
    lastAttempt: string | null;
    lastSuccess: string | null;
    consecutiveFailures: number;
    pausedUntil: string | null;
    bound: string | null;
  } | null;
  spool: { messages: number; bytes: number; maxBytes: number; full: boolean } | null;
  rates: Rates | null;
  requestSeconds: Percentiles | null;
}

export interface Processor {
  pod: string;
  node: string | null;
  address: string | null;
  phase: string;
  ready: boolean;
  startedAt: string | null;
  restarts: number;
  lastExit: Exit | null;
  answers: boolean;
  version: string | null;
  brokerConnected: boolean | null;
  databaseOk: boolean | null;
  queues: number | null;
  consuming: number | null;
  partitions: string[];
  time: Shares | null;
  rates: Rates | null;
}

export interface Partition {
  id: string;
  generation: number;
  partition: number;
  processor: string | null;
  claimedAt: string | null;
  checkpoint: number | null;
  watermark: string | null;
  watermarkLagSeconds: number | null;
  lastEventTime: string | null;
  waitingForMissing: boolean;
  queue: { ready: number; consumers: number; ageSeconds: number } | null;
  prefetch: number | null;
  time: Shares | null;
  rates: Rates | null;
  totals: {
    messages: number;
    ticks: number;
    duplicates: number;
    bytes: number;
    late: number;
    quarantined: number;
    gaps: number;
  } | null;
}

export interface ReleaseImage {
  image: string | null;
  good: string | null;
  failed: string | null;
}

export interface Detail extends Summary {
  observation: Observation | null;
  generation: number | null;
  observedGeneration: number | null;
  spec: Spec | null;
  conditions: Condition[];
  queues: { generation: number; partitions: number }[];
  release: {
    state: string;
    since: string | null;
    message: string | null;
    producer: ReleaseImage;
    processor: ReleaseImage;
  } | null;
  producer: Producer | null;
  processors: Processor[];
  partitions: Partition[];
  latency: { fromEvent: Percentiles; fromPublish: Percentiles; commit: Percentiles };
}

export interface Spec {
  symbols: string[];
  source: { kind: string; url: string | null; plan: string | null };
  interval: string;
  marketHours: string;
  duplicates: string;
  partitions: number;
  replicas: { min: number; max: number };
  windows: string[];
  outOfOrderness: string;
  allowedLateness: string;
  retention: string | null;
  deletionPolicy: string;
  suspend: boolean;
}

export type NodeStatus = "ok" | "idle" | "warning" | "error" | "unknown";
export type Level = "ok" | "low" | "high";
export type NodeKind = "source" | "producer" | "queue" | "processor" | "database";

export interface GraphNode {
  id: string;
  kind: NodeKind;
  layer: number;
  title: string;
  status: NodeStatus;
  detail: string | null;
  figures: Record<string, number | null>;
}

export interface GraphEdge {
  id: string;
  from: string;
  to: string;
  messagesPerSecond: number | null;
  ticksPerSecond: number | null;
  backpressure: number | null;
  level: Level | null;
}

export interface Graph extends Freshness {
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export interface Candle {
  start: string;
  end: string;
  open: string;
  high: string;
  low: string;
  close: string;
  volume: number | null;
  ticks: number;
  averagePrice: string | null;
  revision: number;
  final: boolean;
  updatedAt: string;
}

export interface Candles {
  symbol: string;
  window: string;
  from: string | null;
  to: string | null;
  symbols: string[];
  windows: string[];
  watermark: string | null;
  truncated: boolean;
  candles: Candle[];
}

export interface Distribution {
  min: number | null;
  avg: number | null;
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  max: number | null;
}

export interface Checkpoint {
  id: number;
  partition: string;
  processor: string;
  completedAt: string;
  durationSeconds: number;
  messages: number;
  duplicates: number;
  ticks: number;
  candles: number;
  late: number;
  quarantined: number;
  bytes: number;
}

export interface Checkpoints extends Freshness {
  mode: string;
  totals: { completed: number | null; failed: number | null };
  summary: { count: number; durationSeconds: Distribution; bytes: Distribution; ticks: Distribution };
  partitions: { id: string; checkpoint: number | null; processor: string | null; completedAt: string | null }[];
  checkpoints: Checkpoint[];
}

export interface FeedEvent {
  at: string | null;
  firstAt: string | null;
  count: number | null;
  type: string;
  reason: string;
  action: string | null;
  message: string;
  regarding: string;
}

export interface FeedError {
  kind: "condition" | "restart" | "processor" | "producer";
  at: string | null;
  component: string;
  cause: string;
  message: string;
  active: boolean;
  count: number | null;
  needsPerson: boolean;
}

export interface Errors extends Freshness {
  errors: FeedError[];
}

export interface Quarantine {
  reasons: { reason: string; entries: number }[];
  truncated: boolean;
  entries: {
    id: number;
    receivedAt: string;
    reason: string;
    detail: string | null;
    publisher: string | null;
    sequence: number | null;
    raw: string;
    rawTruncated: boolean;
    releasedAt: string | null;
    queue: string | null;
  }[];
}

export interface ScalingDecision {
  at: string | null;
  reason: string;
  message: string;
}

export interface Scaling {
  replicas: { min: number | null; max: number | null; ready: number | null; wanted: number | null } | null;
  current: {
    replicas: number;
    wanted: number;
    reason: string;
    message: string | null;
    backlog: number | null;
    arrivalPerSecond: number | null;
    perReplicaPerSecond: number | null;
    busyRatio: number | null;
    catchUpSeconds: number | null;
    decidedAt: string | null;
    dryRun: boolean;
  } | null;
  decisions: ScalingDecision[];
}

export type SeriesName =
  | "messagesPerSecond"
  | "ticksPerSecond"
  | "bytesPerSecond"
  | "backlog"
  | "watermarkLagSeconds"
  | "latencyFromEventP50"
  | "latencyFromEventP95"
  | "latencyFromEventP99"
  | "latencyFromPublishP50"
  | "latencyFromPublishP95"
  | "latencyFromPublishP99"
  | "checkpointSecondsP50"
  | "checkpointSecondsP95"
  | "checkpointSecondsMax"
  | "busyRatio"
  | "backpressuredRatio"
  | "processorsReady";

export interface History {
  everySeconds: number;
  capacity: number;
  times: string[];
  series: Partial<Record<SeriesName, (number | null)[]>>;
}

export interface Point {
  time: string;
  values: Partial<Record<SeriesName, number | null>>;
}

export type ActionName = "suspend" | "resume" | "restart" | "drain" | "checkpoint";

export interface Session {
  version: string;
  now: string;
  actions: { enabled: boolean; names: ActionName[]; header: string };
  user: { name: string; groups: string[] } | null;
  watchNamespaces: string[];
  observeEverySeconds: number;
  feeds: number;
}

export interface ActionAnswer {
  action: ActionName;
  feed: string;
  user: string;
  message: string;
  follow: string | null;
  checkpoints: { partition: string; checkpoint: number | null; complete: boolean }[] | null;
}
