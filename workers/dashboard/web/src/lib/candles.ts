// Candles as the chart wants them. Pure. The exact prices stay strings; only the chart's own copy is a float.

import type { Candle } from "../api/types";

/** What was known, and what came since: a candle that comes again takes the place of the old one. Oldest first. */
export function merge(known: readonly Candle[], next: readonly Candle[]): Candle[] {
  const byStart = new Map(known.map((candle) => [candle.start, candle]));
  for (const candle of next) byStart.set(candle.start, candle);
  return [...byStart.values()].sort((one, other) => Date.parse(one.start) - Date.parse(other.start));
}

/** Decimals that the prices have: at least two, at most eight. */
export function decimals(candles: readonly Candle[]): number {
  const of = (price: string) => price.split(".")[1]?.replace(/0+$/, "").length ?? 0;
  const most = candles.reduce(
    (places, { open, high, low, close }) => Math.max(places, of(open), of(high), of(low), of(close)),
    2,
  );
  return Math.min(most, 8);
}

/** How a candle is told to somebody who does not see the chart. */
export function describe(candle: Candle): string {
  if (candle.revision > 0) return `revised by ${candle.revision} late ${candle.revision === 1 ? "tick" : "ticks"}`;
  return candle.final ? "final" : "open";
}

/** Whether it went up, down, or neither. */
export function direction(candle: Candle): "up" | "down" | "flat" {
  const change = Number(candle.close) - Number(candle.open);
  return change > 0 ? "up" : change < 0 ? "down" : "flat";
}
