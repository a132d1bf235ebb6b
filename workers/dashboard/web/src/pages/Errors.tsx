import { useSignal } from "@preact/signals";
import { feedApi } from "../api/client";
import type { Detail, Errors as ErrorsAnswer, FeedEvent } from "../api/types";
import { Empty, Kept, Panel, Stale, Table, Time } from "../components/bits";
import { usePoll } from "../hooks";
import { number } from "../lib/format";
import { ErrorList } from "./ErrorList";

export default function Errors({ feed }: { feed: Detail }) {
  const errors = usePoll<ErrorsAnswer>(feedApi(feed.namespace, feed.name, "/errors"), 5);
  const events = usePoll<{ events: FeedEvent[] }>(feedApi(feed.namespace, feed.name, "/events"), 10);
  const warnings = useSignal(false);
  const shown = events.data?.events.filter((event) => !warnings.value || event.type === "Warning") ?? [];
  return (
    <>
      <Panel title="Errors and restarts, root cause first">
        <Kept polled={errors} what="Errors cannot be read" />
        <Stale freshness={errors.data} />
        {errors.data && <ErrorList errors={errors.data.errors} />}
      </Panel>
      <Panel
        title="Events"
        aside={
          <label>
            <input
              type="checkbox"
              checked={warnings.value}
              onChange={(event) => {
                warnings.value = event.currentTarget.checked;
              }}
            />{" "}
            warnings only
          </label>
        }
      >
        <Kept polled={events} what="Events cannot be read" />
        {events.data && shown.length === 0 && (
          <Empty>
            No {warnings.value ? "warning" : "event"} in the last hour: the API server keeps them no longer.
          </Empty>
        )}
        {shown.length > 0 && (
          <Table label="Kubernetes Events, newest first">
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">Type</th>
                <th scope="col">Reason</th>
                <th scope="col">Message</th>
                <th scope="col" class="number">
                  Times
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((event) => (
                <tr
                  key={`${event.at}${event.reason}${event.message}`}
                  class={event.type === "Warning" ? "warning" : ""}
                >
                  <td>
                    <Time at={event.at} />
                  </td>
                  <td>{event.type === "Warning" ? "! Warning" : event.type}</td>
                  <td>{event.reason}</td>
                  <td class="text">{event.message}</td>
                  <td class="number">{number(event.count ?? 1)}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        )}
      </Panel>
    </>
  );
}
