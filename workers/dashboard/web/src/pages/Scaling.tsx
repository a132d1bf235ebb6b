import { feedApi } from "../api/client";
import type { Detail, Scaling as ScalingAnswer } from "../api/types";
import { Age, Empty, Figure, Kept, Panel, Table, Time } from "../components/bits";
import { history } from "../feed";
import { usePoll } from "../hooks";
import { duration, number, percent, rate } from "../lib/format";
import { Trend } from "./Now";

const PROCESSORS = {
  title: "Processors ready",
  write: (value: number | null) => number(value),
  least: 2,
  lines: [["processorsReady", "ready", "--line-1"]] as ["processorsReady", string, string][],
};
const BACKLOG = {
  title: "Backlog",
  write: (value: number | null) => number(value),
  lines: [["backlog", "messages", "--line-2"]] as ["backlog", string, string][],
};

export default function Scaling({ feed }: { feed: Detail }) {
  const scaling = usePoll<ScalingAnswer>(feedApi(feed.namespace, feed.name, "/scaling"), 5);
  const { data } = scaling;
  const current = data?.current;
  return (
    <>
      <Panel title="How many processors, and why">
        <Kept polled={scaling} what="Scaling cannot be read" />
        {data && (
          <>
            <dl class="figures strip">
              <Figure
                name="Processors"
                field="replicas"
                value={`${number(data.replicas?.ready)} of ${number(data.replicas?.wanted)}`}
                exact={data.replicas?.ready ?? null}
                note={`between ${number(data.replicas?.min)} and ${number(data.replicas?.max)}`}
              />
              {current && (
                <>
                  <Figure
                    name="Arriving"
                    field="arrival"
                    value={rate(current.arrivalPerSecond)}
                    exact={current.arrivalPerSecond}
                    note="messages/s"
                  />
                  <Figure
                    name="One could do"
                    field="capacity"
                    value={rate(current.perReplicaPerSecond)}
                    exact={current.perReplicaPerSecond}
                    note="messages/s"
                  />
                  <Figure
                    name="Busy"
                    field="busy"
                    value={percent(current.busyRatio)}
                    exact={current.busyRatio}
                    note="of their time"
                  />
                  <Figure
                    name="Backlog"
                    field="backlog"
                    value={number(current.backlog)}
                    exact={current.backlog}
                    note={`worked off in ${duration(current.catchUpSeconds)}`}
                  />
                </>
              )}
            </dl>
            {current ? (
              <p class="notice">
                <strong>{current.reason}</strong>
                {current.dryRun && " (dry run: only said, not done)"}: {current.message}{" "}
                <span class="muted">
                  <Age at={current.decidedAt} />
                </span>
              </p>
            ) : (
              <Empty>The operator has not looked yet.</Empty>
            )}
          </>
        )}
        {history.value && history.value.times.length > 1 && (
          <div class="charts">
            <Trend chart={PROCESSORS} history={history.value} />
            <Trend chart={BACKLOG} history={history.value} />
          </div>
        )}
      </Panel>
      <Panel title="Decisions, newest first">
        {data?.decisions.length === 0 && (
          <Empty>None in the last hour: decisions are Events, which the API server keeps no longer.</Empty>
        )}
        {data && data.decisions.length > 0 && (
          <Table label="Decisions">
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">Decision</th>
                <th scope="col">Why</th>
              </tr>
            </thead>
            <tbody>
              {data.decisions.map((decision) => (
                <tr key={`${decision.at}${decision.message}`}>
                  <td>
                    <Time at={decision.at} />
                  </td>
                  <td>
                    <b>{decision.reason}</b>
                  </td>
                  <td class="text">{decision.message}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
    </>
  );
}
