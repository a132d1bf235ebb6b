import type { Detail } from "../api/types";
import { Age, Empty, Panel, Table, Time } from "../components/bits";
import { UNKNOWN } from "../lib/format";

export default function Spec({ feed }: { feed: Detail }) {
  const behind =
    feed.generation !== null && feed.observedGeneration !== null && feed.observedGeneration < feed.generation;
  return (
    <>
      <Panel title="Conditions">
        <Table label="Conditions">
          <thead>
            <tr>
              <th scope="col">Condition</th>
              <th scope="col">Status</th>
              <th scope="col">Reason</th>
              <th scope="col">Message</th>
              <th scope="col">Since</th>
            </tr>
          </thead>
          <tbody>
            {feed.conditions.map((condition) => (
              <tr key={condition.type} class={condition.bad ? "error" : ""}>
                <th scope="row">{condition.type}</th>
                <td>
                  {condition.bad ? "✕ " : ""}
                  {condition.status}
                </td>
                <td>{condition.reason}</td>
                <td class="text">{condition.message}</td>
                <td>
                  <Age at={condition.since} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      </Panel>
      <div class="columns">
        <Panel title="Spec">
          {behind && (
            <p class="notice warning">
              The operator has not seen generation {feed.generation} yet; the last that it saw is{" "}
              {feed.observedGeneration}.
            </p>
          )}
          {feed.spec ? (
            <Pairs value={feed.spec as unknown as Record<string, unknown>} />
          ) : (
            <Empty>The spec cannot be read.</Empty>
          )}
        </Panel>
        <Panel title="Images">
          {feed.release ? (
            <dl class="pairs">
              <dt>State</dt>
              <dd>
                {feed.release.state}
                {feed.release.since && (
                  <>
                    {" "}
                    since <Time at={feed.release.since} />
                  </>
                )}
                {feed.release.message && <div>{feed.release.message}</div>}
              </dd>
              {(["producer", "processor"] as const).map((component) => {
                const { image, good, failed } = feed.release?.[component] ?? { image: null, good: null, failed: null };
                return [
                  <dt key={`${component}-name`}>{component}</dt>,
                  <dd key={component}>
                    <code>{image ?? UNKNOWN}</code>
                    {good && good !== image && (
                      <div>
                        last good: <code>{good}</code>
                      </div>
                    )}
                    {failed && (
                      <div class="level-error">
                        did not work: <code>{failed}</code>
                      </div>
                    )}
                  </dd>,
                ];
              })}
            </dl>
          ) : (
            <Empty>No image was judged yet.</Empty>
          )}
        </Panel>
      </div>
    </>
  );
}

function Pairs({ value }: { value: Record<string, unknown> }) {
  return (
    <dl class="pairs">
      {Object.entries(value).map(([name, each]) => [
        <dt key={`${name}-name`}>{name}</dt>,
        <dd key={name}>{write(each)}</dd>,
      ])}
    </dl>
  );
}

function write(value: unknown): string {
  if (value === null || value === undefined) return UNKNOWN;
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([name, each]) => `${name} ${write(each)}`)
      .join(", ");
  }
  return String(value);
}
