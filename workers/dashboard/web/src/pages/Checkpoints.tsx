import { useMemo } from "preact/hooks";
import { feedApi } from "../api/client";
import type { Checkpoint, Checkpoints as CheckpointsAnswer, Detail, Distribution } from "../api/types";
import { Age, Empty, Figure, Kept, Meter, Panel, Stale, Table, Time } from "../components/bits";
import { history } from "../feed";
import { usePoll } from "../hooks";
import { bytes, duration, fullTime, number } from "../lib/format";
import { parameters, setParameters } from "../state";
import { Trend } from "./Now";

const TREND = {
  title: "Duration of checkpoints, the last hour",
  write: duration,
  lines: [
    ["checkpointSecondsP50", "p50", "--line-1"],
    ["checkpointSecondsP95", "p95", "--line-2"],
    ["checkpointSecondsMax", "longest", "--line-3"],
  ] as ["checkpointSecondsP50" | "checkpointSecondsP95" | "checkpointSecondsMax", string, string][],
};

export default function Checkpoints({ feed }: { feed: Detail }) {
  const answer = usePoll<CheckpointsAnswer>(feedApi(feed.namespace, feed.name, "/checkpoints"), 5);
  const { data } = answer;
  const partition = parameters.value.get("partition") ?? "";
  const shown = data?.checkpoints.filter((each) => partition === "" || each.partition === partition) ?? [];
  return (
    <>
      <Panel
        title="Checkpoints"
        aside={<span class="muted">every commit is one: state and effect in one transaction</span>}
      >
        <Kept polled={answer} what="Checkpoints cannot be read" />
        <Stale freshness={data} />
        {data && (
          <>
            <dl class="figures strip">
              <Figure
                name="Completed"
                field="completed"
                value={number(data.totals.completed)}
                exact={data.totals.completed}
                note="since the processors started"
              />
              <Figure
                name="Failed"
                field="failed"
                value={number(data.totals.failed)}
                exact={data.totals.failed}
                note="rolled back, and done again"
                look={(data.totals.failed ?? 0) > 0 ? "warning" : undefined}
              />
              <Figure
                name="Duration, p95"
                field="p95"
                value={duration(data.summary.durationSeconds.p95)}
                exact={data.summary.durationSeconds.p95}
                note={`longest ${duration(data.summary.durationSeconds.max)}`}
              />
              <Figure name="Mode" field="mode" value={data.mode.replace("_", " ")} exact={data.mode} />
            </dl>
            <Bars checkpoints={shown} />
          </>
        )}
        {history.value && history.value.times.length > 1 && (
          <div class="charts one">
            <Trend chart={TREND} history={history.value} />
          </div>
        )}
      </Panel>
      {data && (
        <div class="columns">
          <Panel title={`Summary of the last ${number(data.summary.count)}`}>
            <SummaryTable summary={data.summary} />
          </Panel>
          <Panel title="The latest of each partition">
            <Table label="The latest checkpoint of each partition">
              <thead>
                <tr>
                  <th scope="col">Partition</th>
                  <th scope="col" class="number">
                    Checkpoint
                  </th>
                  <th scope="col">Completed</th>
                  <th scope="col">Processor</th>
                </tr>
              </thead>
              <tbody>
                {data.partitions.map((each) => (
                  <tr key={each.id} data-partition={each.id} data-checkpoint={each.checkpoint ?? ""}>
                    <th scope="row">{each.id}</th>
                    <td class="number">{number(each.checkpoint)}</td>
                    <td>
                      <Age at={each.completedAt} />
                    </td>
                    <td>{each.processor ?? "–"}</td>
                  </tr>
                ))}
              </tbody>
            </Table>
          </Panel>
        </div>
      )}
      {data && (
        <Panel
          title="History, newest first"
          aside={
            <label>
              <span class="hidden">Partition</span>
              <select value={partition} onChange={(event) => setParameters({ partition: event.currentTarget.value })}>
                <option value="">all partitions</option>
                {data.partitions.map((each) => (
                  <option key={each.id} value={each.id}>
                    partition {each.id}
                  </option>
                ))}
              </select>
            </label>
          }
        >
          {shown.length === 0 ? <Empty>Nothing was committed yet.</Empty> : <HistoryTable checkpoints={shown} />}
        </Panel>
      )}
    </>
  );
}

const SHOWN_BARS = 100;

/** The last checkpoints as bars: one that took long stands out. */
function Bars({ checkpoints }: { checkpoints: Checkpoint[] }) {
  const bars = useMemo(() => checkpoints.slice(0, SHOWN_BARS).reverse(), [checkpoints]);
  if (bars.length === 0) return null;
  const longest = Math.max(...bars.map((each) => each.durationSeconds));
  return (
    <figure class="bars">
      <figcaption>
        <span class="title">Duration of the last {bars.length}, oldest first</span>{" "}
        <span class="when">highest bar: {duration(longest)}</span>
      </figcaption>
      <svg
        viewBox={`0 0 ${SHOWN_BARS * 10} 60`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`The last ${bars.length} checkpoints; the longest took ${duration(longest)}`}
      >
        {bars.map((each, index) => {
          const height = Math.max(1, (each.durationSeconds / longest) * 58);
          return (
            <rect
              key={`${each.partition}/${each.id}`}
              x={(SHOWN_BARS - bars.length + index) * 10 + 1}
              y={60 - height}
              width={8}
              height={height}
            >
              <title>{`${fullTime(each.completedAt, "UTC")}, partition ${each.partition}: ${duration(each.durationSeconds)}`}</title>
            </rect>
          );
        })}
      </svg>
    </figure>
  );
}

const PLACES: (keyof Distribution)[] = ["min", "avg", "p50", "p90", "p95", "p99", "max"];

function SummaryTable({ summary }: { summary: CheckpointsAnswer["summary"] }) {
  const rows: [string, Distribution, (value: number | null) => string][] = [
    ["Duration", summary.durationSeconds, duration],
    ["Size", summary.bytes, bytes],
    ["Ticks", summary.ticks, (value) => number(value)],
  ];
  return (
    <Table label="Summary of the last checkpoints">
      <thead>
        <tr>
          <th scope="col" />
          {PLACES.map((each) => (
            <th key={each} scope="col" class="number">
              {each}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(([name, values, write]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            {PLACES.map((each) => (
              <td key={each} class="number">
                {write(values[each])}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

function HistoryTable({ checkpoints }: { checkpoints: Checkpoint[] }) {
  const longest = Math.max(...checkpoints.map((each) => each.durationSeconds));
  return (
    <Table label="Checkpoints, newest first">
      <thead>
        <tr>
          <th scope="col" class="number">
            Id
          </th>
          <th scope="col">Partition</th>
          <th scope="col">Completed</th>
          <th scope="col" class="number">
            Duration
          </th>
          <th scope="col" class="number">
            Ticks
          </th>
          <th scope="col" class="number">
            Messages
          </th>
          <th scope="col" class="number">
            Seen before
          </th>
          <th scope="col" class="number">
            Candles
          </th>
          <th scope="col" class="number">
            Late
          </th>
          <th scope="col" class="number">
            Quarantined
          </th>
          <th scope="col" class="number">
            Size
          </th>
          <th scope="col">Processor</th>
        </tr>
      </thead>
      <tbody>
        {checkpoints.map((each) => (
          <tr key={`${each.partition}/${each.id}`}>
            <th scope="row" class="number">
              {each.id}
            </th>
            <td>{each.partition}</td>
            <td>
              <Time at={each.completedAt} />
            </td>
            <td class="number">
              <Meter ratio={each.durationSeconds / longest} label={duration(each.durationSeconds)} />{" "}
              {duration(each.durationSeconds)}
            </td>
            <td class="number">{number(each.ticks)}</td>
            <td class="number">{number(each.messages)}</td>
            <td class="number">{number(each.duplicates)}</td>
            <td class="number">{number(each.candles)}</td>
            <td class={`number ${each.late > 0 ? "level-warning" : ""}`}>{number(each.late)}</td>
            <td class={`number ${each.quarantined > 0 ? "level-warning" : ""}`}>{number(each.quarantined)}</td>
            <td class="number">{bytes(each.bytes)}</td>
            <td>{each.processor}</td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
