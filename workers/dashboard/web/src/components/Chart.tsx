import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { duration, UNKNOWN, zoneName } from "../lib/format";
import { summarize } from "../lib/series";
import { isDark, zone } from "../state";
import { timeOfDay } from "./bits";

export interface Line {
  label: string;
  values: (number | null)[];
  /** A variable of the style sheet. */
  color: string;
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  write: (value: number | null) => string;
  /** The axis reaches at least so far. */
  least?: number;
}

const HEIGHT = 150;

/** Lines over the last hour. What a pointer shows is written below; what a screen reader needs is in the label. */
export function Chart({ title, times, lines, write, least = 0 }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const cursor = useSignal<number | null>(null);
  const dark = isDark.value;
  const shownZone = zone.value;
  const labels = lines.map((line) => line.label).join();

  // biome-ignore lint/correctness/useExhaustiveDependencies: what a chart is made of; its data comes below
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const font = "11px system-ui, sans-serif";
    const made = new uPlot(
      {
        width: element.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
        tzDate: (seconds) => {
          const at = new Date(seconds * 1_000);
          return shownZone === "UTC" ? uPlot.tzDate(at, "Etc/UTC") : at;
        },
        scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(least, (high ?? 0) * 1.1) || 1] } },
        axes: [
          {
            ...axis,
            font,
            space: 70,
            size: 26,
            values: (_, ticks) => ticks.map((tick) => timeOfDay(tick).slice(0, 5)),
          },
          { ...axis, font, size: 62, space: 34, values: (_, ticks) => ticks.map((tick) => write(tick)) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: color(line.color),
            width: 1.6,
            points: { show: false },
          })),
        ],
        hooks: {
          setCursor: [
            (chart: uPlot) => {
              cursor.value = chart.cursor.idx ?? null;
            },
          ],
        },
      },
      [times, ...lines.map((line) => line.values)],
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [dark, shownZone, labels]);

  useEffect(() => {
    plot.current?.setData([times, ...lines.map((line) => line.values)]);
  }, [times, lines]);

  const first = times[0];
  const last = times.at(-1);
  const span = first !== undefined && last !== undefined ? duration(last - first) : "";
  const spoken = lines.map((line) => {
    const summary = summarize(line.values);
    if (!summary) return `${line.label}: nothing known`;
    return `${line.label}: now ${write(summary.last)}, least ${write(summary.least)}, most ${write(summary.most)}`;
  });
  const at = cursor.value;
  const moment = at === null ? undefined : times[at];
  return (
    <figure class="chart">
      <figcaption>
        <span class="title">{title}</span>
        <span class="when">
          {moment === undefined
            ? span
              ? `last ${span}`
              : ""
            : `${timeOfDay(moment)} ${zoneName(new Date(moment * 1_000), shownZone)}`}
        </span>
      </figcaption>
      <div
        class="plot"
        ref={holder}
        role="img"
        aria-label={`${title}, over ${span || "no time yet"}. ${spoken.join("; ")}`}
      />
      <ul class="legend" aria-hidden="true">
        {lines.map((line) => {
          const value = at === null ? (summarize(line.values)?.last ?? null) : (line.values[at] ?? null);
          return (
            <li key={line.label}>
              <span class="swatch" style={{ background: `var(${line.color})` }} />
              {line.label} <b>{value === null ? UNKNOWN : write(value)}</b>
            </li>
          );
        })}
      </ul>
    </figure>
  );
}
