import { expect, it, describe as suite } from "vitest";
import type { Candle } from "../api/types";
import { decimals, describe, direction, merge } from "./candles";

const candle = (minute: number, values: Partial<Candle> = {}): Candle => ({
  start: `2026-11-27T14:${String(minute).padStart(2, "0")}:00Z`,
  end: `2026-11-27T14:${String(minute + 1).padStart(2, "0")}:00Z`,
  open: "228.01",
  high: "228.4",
  low: "227.9",
  close: "228.12",
  volume: 10,
  ticks: 2,
  averagePrice: "228.1",
  revision: 0,
  final: true,
  updatedAt: "2026-11-27T14:30:00Z",
  ...values,
});

suite("candles", () => {
  it("a revised candle takes the place of the old one, and order is by time", () => {
    const merged = merge([candle(1), candle(3)], [candle(2), candle(3, { close: "229", revision: 1 })]);
    expect(merged.map(({ start }) => start.slice(14, 16))).toEqual(["01", "02", "03"]);
    expect(merged[2]?.close).toBe("229");
  });

  it("decimals follow the prices, within bounds", () => {
    expect(decimals([])).toBe(2);
    expect(decimals([candle(1, { low: "0.00012300" })])).toBe(6);
    expect(decimals([candle(1, { low: "0.0000000001" })])).toBe(8);
  });

  it("says what it is", () => {
    expect(describe(candle(1))).toBe("final");
    expect(describe(candle(1, { final: false }))).toBe("open");
    expect(describe(candle(1, { revision: 1 }))).toBe("revised by 1 late tick");
    expect(direction(candle(1))).toBe("up");
    expect(direction(candle(1, { close: "228.01" }))).toBe("flat");
    expect(direction(candle(1, { close: "1" }))).toBe("down");
  });
});
