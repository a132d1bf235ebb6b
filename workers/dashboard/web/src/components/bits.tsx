// Small pieces that every page uses.

import { Component, type ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { said } from "../api/client";
import type { FeedState, Freshness } from "../api/types";
import { age, clock, duration, fullTime, percent, time, UNKNOWN } from "../lib/format";
import { type Tone, tone } from "../lib/stages";
import { clientNow, now, zone } from "../state";

/** A moment with its zone. The full moment, in both zones, shows when it is pointed at. */
export function Time({ at }: { at: string | null | undefined }) {
  if (!at) return <span class="unknown">{UNKNOWN}</span>;
  return (
    <time dateTime={at} title={`${fullTime(at, "UTC")}\n${fullTime(at, "local")}`}>
      {time(at, zone.value, new Date(now.value))}
    </time>
  );
}

/** How long ago a moment was; it grows by itself. */
export function Age({ at, suffix = "ago" }: { at: string | null | undefined; suffix?: string }) {
  const seconds = age(at, now.value);
  if (seconds === null || !at) return <span class="unknown">{UNKNOWN}</span>;
  return (
    <time dateTime={at} title={`${fullTime(at, "UTC")}\n${fullTime(at, "local")}`}>
      {seconds < 1 ? "just now" : `${duration(Math.floor(seconds))}${suffix ? ` ${suffix}` : ""}`}
    </time>
  );
}

const GLYPHS: Record<Tone, string> = { ok: "✓", warning: "!", error: "✕", busy: "↻", quiet: "‖" };

/** A state: colour, sign and word, so that none of them is needed to tell. */
export function StatePill({ state }: { state: FeedState }) {
  const look = tone(state);
  return (
    <span class={`pill ${look}`} data-state={state}>
      <span aria-hidden="true">{GLYPHS[look]}</span> <span class="word">{state}</span>
    </span>
  );
}

export function Tag({ look, children }: { look: Tone; children: ComponentChildren }) {
  return <span class={`pill ${look}`}>{children}</span>;
}

/** A figure with its name; `field` and `value` let tests read it as it is. */
export function Figure(props: {
  name: string;
  field: string;
  value: string;
  exact?: string | number | null;
  note?: ComponentChildren;
  look?: Tone | "quiet" | undefined;
}) {
  const { name, field, value, exact, note, look } = props;
  return (
    <div class={`figure ${look ?? ""}`} data-field={field} data-value={exact ?? ""}>
      <dt>{name}</dt>
      <dd>
        <span class="value">{value}</span>
        {note !== undefined && <span class="note">{note}</span>}
      </dd>
    </div>
  );
}

/** Shows what went wrong with one part, with what may help; the rest goes on. */
export function ErrorNotice({ error, what }: { error: unknown; what: string }) {
  const { message, remedy, code } = said(error);
  return (
    <div class="notice error" role="alert">
      <strong>{what}:</strong> {message} <span class="code">({code})</span>
      {remedy && <div class="remedy">{remedy}</div>}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** How old what is shown is, when it is old. */
export function Stale({ freshness }: { freshness: Freshness | null | undefined }) {
  if (!freshness?.stale) return null;
  if (!freshness.at) return <p class="muted">Pods and workers are being asked; nobody looked before.</p>;
  return (
    <p class="notice warning">
      <strong>Old:</strong> what is below was seen <Age at={freshness.at} />
    </p>
  );
}

/** A part that keeps what it showed when a question failed: says how old that is. */
export function Kept({ polled, what }: { polled: { data: unknown; error: unknown; at: number | null }; what: string }) {
  if (!polled.error) return null;
  if (polled.data === null || polled.at === null) return <ErrorNotice error={polled.error} what={what} />;
  const seconds = Math.max(0, Math.round((clientNow.value - polled.at) / 1_000));
  return <ErrorNotice error={polled.error} what={`${what}; what is shown is ${duration(seconds)} old`} />;
}

interface PanelProps {
  title: string;
  aside?: ComponentChildren;
  class?: string;
  children: ComponentChildren;
}

/** A part of a page. A fault in it blanks it alone. */
export function Panel({ title, aside, children, ...rest }: PanelProps) {
  const id = useId();
  return (
    <section class={`panel ${rest.class ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      <Boundary>{children}</Boundary>
    </section>
  );
}

export class Boundary extends Component<{ children: ComponentChildren }, { error: unknown }> {
  override state = { error: null as unknown };

  override componentDidCatch(error: unknown) {
    console.error(error);
    this.setState({ error });
  }

  override render() {
    if (this.state.error) return <ErrorNotice error={this.state.error} what="This part cannot be shown" />;
    return this.props.children;
  }
}

/** How full something is. */
export function Meter({ ratio, label, look }: { ratio: number; label: string; look?: Tone }) {
  const width = `${Math.min(100, Math.max(0, ratio * 100))}%`;
  return (
    <span class={`meter ${look ?? ""}`} role="img" aria-label={label} title={label}>
      <span style={{ width }} />
    </span>
  );
}

/** Busy, idle and backpressured, in Flink's sense. */
export function Shares({ time: shares }: { time: { busy: number; idle: number; backpressured: number } | null }) {
  if (!shares) return <span class="unknown">{UNKNOWN}</span>;
  const text = `busy ${percent(shares.busy)}, backpressured ${percent(shares.backpressured)}, idle ${percent(shares.idle)}`;
  return (
    <span class="shares">
      <span class="bar" role="img" aria-label={text} title={text}>
        <span class="busy" style={{ width: `${shares.busy * 100}%` }} />
        <span class="backpressured" style={{ width: `${shares.backpressured * 100}%` }} />
      </span>
      <span class="words">
        {percent(shares.busy)} busy
        {shares.backpressured >= 0.01 && <>, {percent(shares.backpressured)} backpressured</>}
      </span>
    </span>
  );
}

/** A command to copy: the page reads only, and a terminal goes on from here. */
export function Command({ text }: { text: string }) {
  return <code class="command">{text}</code>;
}

export const timeOfDay = (seconds: number) => clock(new Date(seconds * 1_000), zone.value);

/** A table that can be scrolled by keyboard where it is wider than the page. */
export function Table({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    <section class="scroll" aria-label={label} tabIndex={0}>
      <table>
        <caption class="hidden">{label}</caption>
        {children}
      </table>
    </section>
  );
}
