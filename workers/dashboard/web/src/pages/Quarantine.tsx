import { feedApi } from "../api/client";
import type { Detail, Quarantine as QuarantineAnswer } from "../api/types";
import { Command, Empty, Kept, Panel, Tag, Time } from "../components/bits";
import { usePoll } from "../hooks";
import { number } from "../lib/format";
import { query } from "../lib/route";
import { parameters, setParameters } from "../state";

const STEP = 50;
const MOST = 500;

export default function Quarantine({ feed }: { feed: Detail }) {
  const reason = parameters.value.get("reason") ?? "";
  const limit = Math.min(MOST, Number(parameters.value.get("limit")) || STEP);
  const answer = usePoll<QuarantineAnswer>(
    feedApi(feed.namespace, feed.name, `/quarantine${query({ reason, limit })}`),
    10,
  );
  const { data } = answer;
  const name = `${feed.name} --namespace ${feed.namespace}`;
  return (
    <Panel title="Quarantine: what could not be used, newest first">
      <Kept polled={answer} what="Quarantine cannot be read" />
      {data && (
        <>
          <fieldset class="chips">
            <legend class="hidden">Reasons</legend>
            <button
              type="button"
              class="chip"
              aria-pressed={reason === ""}
              onClick={() => setParameters({ reason: null, limit: null })}
            >
              all
            </button>
            {data.reasons.map((each) => (
              <button
                type="button"
                key={each.reason}
                class="chip warning"
                aria-pressed={reason === each.reason}
                onClick={() => setParameters({ reason: each.reason, limit: null })}
              >
                {each.reason} <b>{number(each.entries)}</b>
              </button>
            ))}
          </fieldset>
          {data.entries.length === 0 ? (
            <Empty>✓ Nothing {reason ? `for the reason ${reason} ` : ""}is in quarantine.</Empty>
          ) : (
            <p class="muted">
              To try entries again, or to delete them:{" "}
              <Command text={`kubectl stockfeed quarantine release ${name} ID…`} />{" "}
              <Command text={`kubectl stockfeed quarantine discard ${name} ID… --yes`} />
            </p>
          )}
          <ul class="quarantine">
            {data.entries.map((entry) => (
              <li key={entry.id} data-entry={entry.id}>
                <details>
                  <summary>
                    <span class="id">#{entry.id}</span> <b>{entry.reason}</b> {entry.detail}{" "}
                    <span class="muted">
                      <Time at={entry.receivedAt} />
                    </span>
                    {entry.releasedAt && (
                      <Tag look="busy">
                        released <Time at={entry.releasedAt} />
                      </Tag>
                    )}
                  </summary>
                  <p class="muted">
                    publisher {entry.publisher ?? "none"}, sequence {entry.sequence ?? "none"}
                    {entry.queue && `, from queue ${entry.queue}`}
                  </p>
                  {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
                  <pre tabIndex={0}>{entry.raw}</pre>
                  {entry.rawTruncated && <p class="muted">Only the beginning is shown.</p>}
                </details>
              </li>
            ))}
          </ul>
          {data.truncated && limit < MOST && (
            <button type="button" onClick={() => setParameters({ limit: String(Math.min(MOST, limit * 2)) })}>
              Show more
            </button>
          )}
          {data.truncated && limit >= MOST && <p class="muted">Only the newest {MOST} are shown.</p>}
        </>
      )}
    </Panel>
  );
}
