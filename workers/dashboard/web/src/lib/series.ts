// Series of the last hour. Pure.

import type { History, Point, SeriesName } from "../api/types";

/** The history with one more point; at most as many as the server keeps. A point that is there already changes nothing. */
export function append(history: History, point: Point): History {
  const last = history.times.at(-1);
  if (last !== undefined && point.time <= last) return history;
  const from = Math.max(0, history.times.length + 1 - history.capacity);
  const series: History["series"] = {};
  const names = new Set([...Object.keys(history.series), ...Object.keys(point.values)]) as Set<SeriesName>;
  for (const name of names) {
    const known = history.series[name] ?? history.times.map(() => null);
    series[name] = [...known.slice(from), point.values[name] ?? null];
  }
  return { ...history, times: [...history.times.slice(from), point.time], series };
}

/** Times in seconds since 1970, with a hole where nobody looked: else a line would be drawn across it. */
export function withHoles(
  times: readonly string[],
  columns: readonly (readonly (number | null)[])[],
  everySeconds: number,
): { times: number[]; columns: (number | null)[][] } {
  const result = { times: [] as number[], columns: columns.map(() => [] as (number | null)[]) };
  let previous: number | null = null;
  times.forEach((time, index) => {
    const at = Date.parse(time) / 1000;
    if (previous !== null && at - previous > everySeconds * 3) {
      result.times.push(previous + everySeconds);
      for (const column of result.columns) column.push(null);
    }
    result.times.push(at);
    columns.forEach((column, place) => {
      result.columns[place]?.push(column[index] ?? null);
    });
    previous = at;
  });
  return result;
}

/** What a line is, in numbers. */
export function summarize(values: readonly (number | null)[]): { last: number; least: number; most: number } | null {
  const known = values.filter((value): value is number => value !== null);
  const last = known.at(-1);
  if (last === undefined) return null;
  return { last, least: Math.min(...known), most: Math.max(...known) };
}
