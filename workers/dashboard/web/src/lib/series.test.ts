import { describe, expect, it } from "vitest";
import type { History } from "../api/types";
import { append, summarize, withHoles } from "./series";

const at = (second: number) => new Date(Date.UTC(2026, 10, 27, 14, 0, second)).toISOString();
const history: History = { everySeconds: 5, capacity: 3, times: [at(0), at(5)], series: { backlog: [1, 2] } };

describe("points", () => {
  it("are appended, the oldest goes when there are too many", () => {
    const three = append(history, { time: at(10), values: { backlog: 3, ticksPerSecond: 9 } });
    expect(three.series).toEqual({ backlog: [1, 2, 3], ticksPerSecond: [null, null, 9] });
    const four = append(three, { time: at(15), values: { backlog: null } });
    expect(four.times).toEqual([at(5), at(10), at(15)]);
    expect(four.series).toEqual({ backlog: [2, 3, null], ticksPerSecond: [null, 9, null] });
  });

  it("that come twice are one", () => {
    expect(append(history, { time: at(5), values: { backlog: 9 } })).toBe(history);
  });
});

describe("holes", () => {
  it("are no line", () => {
    const seconds = (second: number) => Date.parse(at(second)) / 1000;
    const drawn = withHoles([at(0), at(5), at(40)], [[1, 2, 3]], 5);
    expect(drawn.times).toEqual([seconds(0), seconds(5), seconds(10), seconds(40)]);
    expect(drawn.columns).toEqual([[1, 2, null, 3]]);
  });

  it("are not known values", () => {
    expect(summarize([4, null, 2, null])).toEqual({ last: 2, least: 2, most: 4 });
    expect(summarize([null])).toBeNull();
  });
});
