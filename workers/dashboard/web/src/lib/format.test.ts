import { describe, expect, it } from "vitest";
import { age, bytes, count, duration, fullTime, number, percent, rate, time, UNKNOWN } from "./format";

describe("what is not known", () => {
  it("is a dash everywhere", () => {
    for (const write of [number, rate, duration, percent, bytes]) {
      expect(write(null)).toBe(UNKNOWN);
      expect(write(undefined)).toBe(UNKNOWN);
    }
    expect(time(null, "UTC", new Date())).toBe(UNKNOWN);
    expect(time("never", "UTC", new Date())).toBe(UNKNOWN);
    expect(age(null, 0)).toBeNull();
  });

  it("is not the same as zero", () => {
    expect(number(0)).toBe("0");
    expect(duration(0)).toBe("0\u00a0s");
    expect(percent(0)).toBe("0\u00a0%");
    expect(rate(0)).toBe("0");
  });
});

const plain = (text: string) => text.replaceAll("\u00a0", " ");

describe("durations", () => {
  it("break between their units only", () => {
    expect(duration(61 * 60)).toBe("1\u00a0h 1\u00a0min");
  });

  it.each([
    [0.0000021, "2 µs"],
    [0.0021, "2.1 ms"],
    [0.25, "250 ms"],
    [6.04, "6 s"],
    [5.94, "5.9 s"],
    [61, "61 s"],
    [99.6, "1 min 40 s"],
    [120, "2 min"],
    [3_599, "59 min 59 s"],
    [3_661, "1 h 1 min"],
    [7_170, "2 h"],
    [90_000, "1 d 1 h"],
    [-3, "−3 s"],
  ])("%d s is %s", (seconds, expected) => {
    expect(plain(duration(seconds))).toBe(expected);
  });
});

describe("numbers", () => {
  it.each([
    [40.52, "40.5"],
    [1234.5, "1,235"],
    [0.126, "0.13"],
    [12, "12"],
  ])("%d is %s", (value, expected) => {
    expect(number(value)).toBe(expected);
  });

  it("a rate that is almost nothing is not shown as nothing", () => {
    expect(rate(0.001, "ticks/s")).toBe("< 0.01 ticks/s");
  });

  it("sizes", () => {
    expect(bytes(512)).toBe("512 B");
    expect(bytes(268_435_456)).toBe("256 MiB");
  });

  it("one and many", () => {
    expect(count(1, "entry", "entries")).toBe("1 entry");
    expect(count(2, "feed")).toBe("2 feeds");
  });
});

describe("times", () => {
  const now = new Date("2026-11-27T14:30:00Z");

  it("have their zone, and their day when it is not today", () => {
    expect(time("2026-11-27T09:05:07Z", "UTC", now)).toBe("09:05:07 UTC");
    expect(time("2026-11-26T23:05:07Z", "UTC", now)).toBe("2026-11-26 23:05:07 UTC");
    expect(fullTime("2026-11-27T09:05:07.042Z", "UTC")).toBe("2026-11-27 09:05:07.042 UTC");
  });

  it("ages are of the server's clock and never negative", () => {
    expect(age("2026-11-27T14:29:54Z", now.getTime())).toBe(6);
    expect(age("2026-11-27T14:31:00Z", now.getTime())).toBe(0);
  });
});
