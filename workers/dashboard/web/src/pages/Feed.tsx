// One feed: what holds for all of its pages. Its trouble is said on top, whichever page is open.

import { lazy, Suspense } from "preact/compat";
import { useEffect, useRef } from "preact/hooks";
import type { Detail } from "../api/types";
import { Actions } from "../components/Actions";
import { Age, Boundary, Command, ErrorNotice, StatePill, Tag } from "../components/bits";
import { detail, feedError, watch } from "../feed";
import { number } from "../lib/format";
import { feedPath, type Tab } from "../lib/route";
import { advice, LEVEL_WORDS, type StageLevel, stages, tone } from "../lib/stages";

const PAGES: Record<Tab, { title: string; page: (props: { feed: Detail }) => preact.JSX.Element }> = {
  now: { title: "Now", page: lazy(() => import("./Now")) },
  candles: { title: "Candles", page: lazy(() => import("./Candles")) },
  checkpoints: { title: "Checkpoints", page: lazy(() => import("./Checkpoints")) },
  partitions: { title: "Partitions", page: lazy(() => import("./Partitions")) },
  errors: { title: "Errors & events", page: lazy(() => import("./Errors")) },
  scaling: { title: "Scaling", page: lazy(() => import("./Scaling")) },
  quarantine: { title: "Quarantine", page: lazy(() => import("./Quarantine")) },
  spec: { title: "Spec", page: lazy(() => import("./Spec")) },
};

const GLYPHS: Record<StageLevel, string> = { ok: "✓", cause: "✕", follows: "!", pending: "↻", unknown: "?" };

export function FeedPage({ namespace, name, tab }: { namespace: string; name: string; tab: Tab }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => watch(namespace, name), [namespace, name]);
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, []);
  const feed = detail.value;
  const error = feedError.value;
  const state = feed?.state ?? "";
  useEffect(() => {
    document.title = `${name} ${state} · ${PAGES[tab].title} · StockFeed`;
  }, [name, tab, state]);
  const Page = PAGES[tab].page;
  return (
    <>
      <div class="feed-head">
        <nav class="crumbs" aria-label="Where you are">
          <a href="/">Feeds</a> / {namespace}
        </nav>
        <h1 ref={heading} tabIndex={-1}>
          {name} {feed && <StatePill state={feed.state} />}
          {feed?.paused && <Tag look="warning">Paused</Tag>}
        </h1>
        {feed && <Actions feed={feed} />}
      </div>
      {error !== null && (
        <ErrorNotice error={error} what={feed ? "This feed cannot be asked" : `${namespace}/${name} cannot be shown`} />
      )}
      {feed && <Verdict feed={feed} />}
      <nav class="tabs" aria-label="Pages of this feed">
        {(Object.keys(PAGES) as Tab[]).map((each) => (
          <a key={each} href={feedPath(namespace, name, each)} aria-current={each === tab ? "page" : undefined}>
            {PAGES[each].title}
            {each === "quarantine" && (feed?.quarantined ?? 0) > 0 && <b class="badge">{number(feed?.quarantined)}</b>}
          </a>
        ))}
      </nav>
      {feed ? (
        <Boundary key={`${namespace}/${name}/${tab}`}>
          <Suspense
            fallback={
              <p class="loading" role="status">
                Loading…
              </p>
            }
          >
            <Page feed={feed} />
          </Suspense>
        </Boundary>
      ) : (
        error === null && (
          <p class="loading" role="status">
            Asking for {namespace}/{name}…
          </p>
        )
      )}
    </>
  );
}

/** The cause, and what it means, in one look. */
function Verdict({ feed }: { feed: Detail }) {
  const { cause, observation } = feed;
  const look = tone(feed.state);
  const advised = advice(feed);
  const problems = observation?.problems ?? [];
  return (
    <section class={`verdict ${look}`} aria-label="How this feed is">
      <p class="headline" role="status">
        {cause ? (
          <>
            <span class="where">
              {cause.condition} · {cause.reason}
            </span>{" "}
            {cause.message}
          </>
        ) : (
          feed.message
        )}
      </p>
      {(cause || advised) && (
        <p class="what">
          {cause && (
            <>
              since <Age at={cause.since} suffix="" /> ·{" "}
            </>
          )}
          {advised}
          {cause && (
            <>
              {" "}
              <Command text={`kubectl describe stockfeed ${feed.name} --namespace ${feed.namespace}`} />
            </>
          )}
        </p>
      )}
      <ol class="stages" aria-label="Stages, in the order in which data flows">
        {stages(feed).map((stage) => (
          <li key={stage.type} class={stage.level} title={stage.message || stage.reason}>
            <span class="glyph" aria-hidden="true">
              {GLYPHS[stage.level]}
            </span>
            <span class="name">{stage.title}</span>
            <span class="reason">
              {stage.level === "ok" ? stage.reason : `${LEVEL_WORDS[stage.level]}: ${stage.reason}`}
            </span>
          </li>
        ))}
      </ol>
      {observation?.stale && (
        <p class="notice warning">
          <strong>Old:</strong> pods and workers were last seen <Age at={observation.at} />; the state above is the
          operator's own.
        </p>
      )}
      {problems.map((problem) => (
        <p key={problem.source} class="notice warning">
          <strong>{problem.source}</strong> {problem.message} (since <Age at={problem.since} suffix="" />)
        </p>
      ))}
    </section>
  );
}
