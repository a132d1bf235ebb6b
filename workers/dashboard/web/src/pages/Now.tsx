import { useMemo } from "preact/hooks";
import { feedApi } from "../api/client";
import type { Detail, Errors, FeedEvent, Graph, History, Percentiles, Scaling, SeriesName } from "../api/types";
import { Age, Empty, Figure, Kept, Meter, Panel, Stale, Time } from "../components/bits";
import { Chart, type Line } from "../components/Chart";
import { GraphView } from "../components/GraphView";
import { history } from "../feed";
import { usePoll } from "../hooks";
import { lagLevel, quotaShare, rateOf } from "../lib/feeds";
import { age, bytes, count, duration, number, percent, rate } from "../lib/format";
import { feedPath } from "../lib/route";
import { withHoles } from "../lib/series";
import type { Tone } from "../lib/stages";
import { now } from "../state";
import { ErrorList } from "./ErrorList";

export default function Now({ feed }: { feed: Detail }) {
  const { namespace, name } = feed;
  const graph = usePoll<Graph>(feedApi(namespace, name, "/graph"), 5);
  const errors = usePoll<Errors>(feedApi(namespace, name, "/errors"), 10);
  const events = usePoll<{ events: FeedEvent[] }>(feedApi(namespace, name, "/events"), 15);
  const scaling = usePoll<Scaling>(feedApi(namespace, name, "/scaling"), 15);
  const isInTrouble = errors.data?.errors.some((error) => error.active) ?? false;
  const errorPanel = (
    <Panel title="Errors, root cause first" aside={<a href={feedPath(namespace, name, "errors")}>all</a>}>
      <Kept polled={errors} what="Errors cannot be read" />
      {errors.data && <ErrorList errors={errors.data.errors} most={5} />}
    </Panel>
  );
  return (
    <>
      {isInTrouble && errorPanel}
      <Figures feed={feed} />
      <Panel title="From source to sink" aside={<Legend />} class="graph-panel">
        <Kept polled={graph} what="The graph cannot be read" />
        <Stale freshness={graph.data} />
        {graph.data && <GraphView graph={graph.data} windows={feed.spec?.windows ?? []} />}
      </Panel>
      <div class="columns">
        {!isInTrouble && errorPanel}
        <Panel title="Quota and market">
          <QuotaAndMarket feed={feed} />
        </Panel>
      </div>
      <Trends history={history.value} />
      <div class="columns">
        <Panel title="Scaling" aside={<a href={feedPath(namespace, name, "scaling")}>all decisions</a>}>
          <Kept polled={scaling} what="Scaling cannot be read" />
          {scaling.data && <ScalingBrief scaling={scaling.data} />}
        </Panel>
        <Panel title="Latest events" aside={<a href={feedPath(namespace, name, "errors")}>all</a>}>
          <Kept polled={events} what="Events cannot be read" />
          {events.data?.events.length === 0 && <Empty>No event in the last hour.</Empty>}
          <ul class="brief-events">
            {events.data?.events.slice(0, 6).map((event) => (
              <li key={`${event.at}${event.reason}${event.message}`} class={event.type === "Warning" ? "warning" : ""}>
                <Age at={event.at} /> <b>{event.reason}</b> {event.message}
              </li>
            ))}
          </ul>
        </Panel>
      </div>
    </>
  );
}

function Legend() {
  return (
    <span class="legend-line">
      backpressure: <i class="key ok" /> up to 10 % <i class="key low" /> up to 50 % <i class="key high" /> above
    </span>
  );
}

const LOOKS = { ok: undefined, warning: "warning", error: "error", quiet: undefined } as const;

function latencyNote(percentiles: Percentiles): string {
  return percentiles.count === 0
    ? "no commit lately"
    : `p50 ${duration(percentiles.p50)} · p99 ${duration(percentiles.p99)}`;
}

function Figures({ feed }: { feed: Detail }) {
  const { value, unit } = rateOf(feed);
  const lag = feed.watermark === null ? feed.watermarkLagSeconds : age(feed.watermark, now.value);
  const closed = feed.market?.open === false;
  const queued =
    feed.partitions.reduce<number | null>((sum, each) => (each.queue ? (sum ?? 0) + each.queue.ready : sum), null) ??
    feed.backlog;
  const some = (amount: number | null): Tone | undefined => ((amount ?? 0) > 0 ? "warning" : undefined);
  const { fromEvent, fromPublish, commit } = feed.latency;
  return (
    <dl class="figures strip">
      <Figure name="Rate" field="rate" value={rate(value)} exact={value} note={unit} />
      <Figure
        name="Watermark lag"
        field="lag"
        value={duration(lag === null ? null : Math.round(lag))}
        exact={feed.watermark}
        note={closed ? "market closed" : "behind the clock"}
        look={LOOKS[lagLevel(feed, lag)]}
      />
      <Figure
        name="Last tick"
        field="lastTick"
        value={duration(roundDown(age(feed.lastTickTime, now.value)))}
        exact={feed.lastTickTime}
        note={feed.lastTickTime ? <Time at={feed.lastTickTime} /> : "none yet"}
      />
      <Figure
        name="p95 from event"
        field="latencyEvent"
        value={duration(fromEvent.p95)}
        exact={fromEvent.p95}
        note={latencyNote(fromEvent)}
      />
      <Figure
        name="p95 from publish"
        field="latencyPublish"
        value={duration(fromPublish.p95)}
        exact={fromPublish.p95}
        note={latencyNote(fromPublish)}
      />
      <Figure
        name="p95 of commits"
        field="checkpoint"
        value={duration(commit.p95)}
        exact={commit.p95}
        note={latencyNote(commit)}
      />
      <Figure name="Backlog" field="backlog" value={number(queued)} exact={queued} note="messages wait" />
      <Figure
        name="Quarantined"
        field="quarantined"
        value={number(feed.quarantined)}
        exact={feed.quarantined}
        note="entries"
        look={some(feed.quarantined)}
      />
      <Figure
        name="Missing"
        field="missing"
        value={number(feed.missingMessages)}
        exact={feed.missingMessages}
        note="messages"
        look={some(feed.missingMessages)}
      />
    </dl>
  );
}

const roundDown = (seconds: number | null) => (seconds === null ? null : Math.floor(seconds));

function QuotaAndMarket({ feed }: { feed: Detail }) {
  const { quota, market, producer } = feed;
  const share = quotaShare(feed);
  return (
    <dl class="pairs">
      <dt>Market</dt>
      <dd>
        {market === null ? "–" : market.open ? `open (${market.hours})` : "closed"}
        {market?.nextOpen && (
          <>
            , opens <Time at={market.nextOpen} />
          </>
        )}
      </dd>
      {quota ? (
        <>
          <dt>Calls today</dt>
          <dd>
            {share === null ? (
              `${number(quota.usedToday)}, unbounded`
            ) : (
              <>
                <Meter
                  ratio={share}
                  label={`${percent(share)} used`}
                  look={quota.exhaustedAt ? "error" : quota.sufficient === false ? "warning" : "ok"}
                />{" "}
                {number(quota.usedToday)} of {number(quota.callsPerDay)} ({percent(share)})
              </>
            )}
            {quota.exhaustedAt && (
              <strong class="level-error">
                {" "}
                used up since <Time at={quota.exhaustedAt} />
              </strong>
            )}
          </dd>
          <dt>A day's plan</dt>
          <dd class={quota.sufficient === false ? "level-warning" : ""}>
            {number(quota.projectedCallsPerDay)} calls at an interval of {feed.interval}
            {quota.sufficient === false && ` – too many; ${quota.minimumInterval} would fit`}
            {(quota.feeds ?? 1) > 1 && `, the key is shared by ${count(quota.feeds ?? 0, "feed")}`}
          </dd>
          {quota.message && (
            <>
              <dt>Verdict</dt>
              <dd>{quota.message}</dd>
            </>
          )}
          <dt>Polls every</dt>
          <dd>{quota.effectiveInterval ?? "–"}</dd>
        </>
      ) : (
        <>
          <dt>Quota</dt>
          <dd>not known yet</dd>
        </>
      )}
      {producer?.source && (
        <>
          <dt>Source answered</dt>
          <dd class={producer.source.consecutiveFailures > 0 ? "level-error" : ""}>
            <Age at={producer.source.lastSuccess} />
            {producer.source.consecutiveFailures > 0 &&
              `, ${count(producer.source.consecutiveFailures, "failure")} since`}
            {producer.source.problem && `: ${producer.source.problem}`}
          </dd>
        </>
      )}
      {producer?.spool && (
        <>
          <dt>Spool</dt>
          <dd class={producer.spool.full ? "level-error" : ""}>
            {count(producer.spool.messages, "message")}, {bytes(producer.spool.bytes)} of{" "}
            {bytes(producer.spool.maxBytes)}
            {producer.spool.full && ", full: the source is not polled"}
          </dd>
        </>
      )}
    </dl>
  );
}

function ScalingBrief({ scaling }: { scaling: Scaling }) {
  const { current, decisions, replicas } = scaling;
  if (!replicas) return <Empty>The object cannot be read.</Empty>;
  return (
    <>
      <p>
        <b>
          {number(replicas.ready)} of {number(replicas.wanted)}
        </b>{" "}
        processors ready, between {number(replicas.min)} and {number(replicas.max)}.
      </p>
      {current && (
        <p>
          <b>{current.reason}</b>
          {current.dryRun && " (dry run)"}: {current.message ?? ""}{" "}
          <span class="muted">
            <Age at={current.decidedAt} />
          </span>
        </p>
      )}
      {decisions[0] && (
        <p class="muted">
          Last change <Age at={decisions[0].at} />: {decisions[0].reason}, {decisions[0].message}
        </p>
      )}
    </>
  );
}

type Drawn = {
  title: string;
  write: (value: number | null) => string;
  least?: number;
  lines: [SeriesName, string, string][];
};

const CHARTS: Drawn[] = [
  { title: "Ticks per second", write: (value) => rate(value), lines: [["ticksPerSecond", "ticks/s", "--line-1"]] },
  { title: "Watermark lag", write: duration, lines: [["watermarkLagSeconds", "lag", "--line-1"]] },
  {
    title: "Latency, event to commit",
    write: duration,
    lines: [
      ["latencyFromEventP50", "p50", "--line-1"],
      ["latencyFromEventP95", "p95", "--line-2"],
      ["latencyFromEventP99", "p99", "--line-3"],
    ],
  },
  {
    title: "Checkpoint duration",
    write: duration,
    lines: [
      ["checkpointSecondsP50", "p50", "--line-1"],
      ["checkpointSecondsP95", "p95", "--line-2"],
      ["checkpointSecondsMax", "longest", "--line-3"],
    ],
  },
  { title: "Backlog", write: (value) => number(value), lines: [["backlog", "messages", "--line-1"]] },
  {
    title: "Processors' time",
    write: percent,
    least: 1,
    lines: [
      ["busyRatio", "busy", "--line-1"],
      ["backpressuredRatio", "backpressured", "--line-3"],
    ],
  },
];

function Trends({ history: known }: { history: History | null }) {
  return (
    <Panel title="The last hour">
      {known === null || known.times.length < 2 ? (
        <Empty>Measuring has just begun: it is done while somebody looks at the feed.</Empty>
      ) : (
        <div class="charts">
          {CHARTS.map((chart) => (
            <Trend key={chart.title} chart={chart} history={known} />
          ))}
        </div>
      )}
    </Panel>
  );
}

export function Trend({ chart, history: known }: { chart: Drawn; history: History }) {
  const { times, lines } = useMemo(() => {
    const columns = chart.lines.map(([name]) => known.series[name] ?? known.times.map(() => null));
    const drawn = withHoles(known.times, columns, known.everySeconds);
    const made: Line[] = chart.lines.map(([, label, color], index) => ({
      label,
      color,
      values: drawn.columns[index] ?? [],
    }));
    return { times: drawn.times, lines: made };
  }, [chart, known]);
  return (
    <Chart
      title={chart.title}
      times={times}
      lines={lines}
      write={chart.write}
      {...(chart.least ? { least: chart.least } : {})}
    />
  );
}
