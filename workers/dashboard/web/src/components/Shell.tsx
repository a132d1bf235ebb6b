import type { ComponentChildren } from "preact";
import { heardAt, mode, trouble } from "../api/live";
import { duration, zoneName } from "../lib/format";
import { clientNow, now, session, theme, zone } from "../state";
import { Boundary } from "./bits";

/** From so many seconds of silence on the page says so. */
const SILENT_SECONDS = 45;

/** Whether the page is fresh: said in words, and read out when it changes. */
function Freshness() {
  const seconds = heardAt.value === null ? null : Math.max(0, Math.round((clientNow.value - heardAt.value) / 1_000));
  const silent = seconds !== null && seconds > SILENT_SECONDS;
  const lost = mode.value === "lost" || silent;
  const words = lost
    ? "not live"
    : { connecting: "connecting", stream: "live", polling: "live, by asking", lost: "" }[mode.value];
  return (
    <span class={`freshness ${lost ? "lost" : mode.value}`} title={trouble.value ?? undefined}>
      <span class="dot" aria-hidden="true" />
      <span role="status">{words}</span>
      {seconds !== null && seconds > 10 && <span class="since"> {duration(seconds)} old</span>}
    </span>
  );
}

function Switches() {
  const local = zoneName(new Date(now.value), "local");
  return (
    <div class="switches">
      <label>
        <span class="hidden">Time zone</span>
        <select
          value={zone.value}
          onChange={(event) => {
            zone.value = event.currentTarget.value === "local" ? "local" : "UTC";
          }}
        >
          <option value="UTC">UTC</option>
          <option value="local">local ({local})</option>
        </select>
      </label>
      <label>
        <span class="hidden">Theme</span>
        <select
          value={theme.value}
          onChange={(event) => {
            const value = event.currentTarget.value;
            theme.value = value === "light" || value === "dark" ? value : "system";
          }}
        >
          <option value="system">system</option>
          <option value="light">light</option>
          <option value="dark">dark</option>
        </select>
      </label>
    </div>
  );
}

export function Shell({ children }: { children: ComponentChildren }) {
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href="/">
          <img src="/favicon.svg" alt="" width={22} height={22} /> StockFeed
        </a>
        <Freshness />
        <Switches />
      </header>
      {mode.value === "lost" && (
        <div class="notice error page" role="alert">
          <strong>Not live:</strong> {trouble.value}. What is shown is what was heard last; it is tried again by itself.
        </div>
      )}
      <main id="main" tabIndex={-1}>
        <Boundary>{children}</Boundary>
      </main>
      <footer>
        StockFeed {session.value?.version ?? ""} ·{" "}
        <a href="/overview" target="_blank" rel="noreferrer">
          Flink's REST API
        </a>{" "}
        ·{" "}
        <a href="/api/v1/feeds" target="_blank" rel="noreferrer">
          this page's API
        </a>
      </footer>
    </>
  );
}
