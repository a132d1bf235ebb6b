import type { FeedError } from "../api/types";
import { Age, Empty, Tag } from "../components/bits";
import { count } from "../lib/format";

const KINDS: Record<FeedError["kind"], string> = {
  condition: "condition",
  restart: "pod",
  processor: "processor",
  producer: "producer",
};

/** What went wrong, as the server orders it: the first one is the root of those after it. */
export function ErrorList({ errors, most }: { errors: FeedError[]; most?: number }) {
  if (errors.length === 0) return <Empty>✓ Nothing went wrong that anybody remembers.</Empty>;
  const shown = most === undefined ? errors : errors.slice(0, most);
  const firstActive = errors.findIndex((error) => error.active);
  return (
    <ol class="errors">
      {shown.map((error, index) => (
        <li key={`${error.kind}${error.component}${error.at}${error.cause}`} class={error.active ? "active" : "past"}>
          <div class="line">
            {index === firstActive && error.active && <Tag look="error">root cause</Tag>}
            <b>{error.cause}</b>
            <span class="muted">
              {KINDS[error.kind]} {error.component}
            </span>
            {error.count !== null && error.count > 0 && (
              <span class="muted">{count(error.count, error.kind === "restart" ? "restart" : "time")}</span>
            )}
            <span class="muted">
              {error.active ? (
                <>
                  since <Age at={error.at} suffix="" />
                </>
              ) : (
                <Age at={error.at} />
              )}
            </span>
            {error.needsPerson && <Tag look="warning">needs a person</Tag>}
          </div>
          <div class="message">{error.message}</div>
        </li>
      ))}
      {shown.length < errors.length && <li class="muted">and {errors.length - shown.length} more</li>}
    </ol>
  );
}
