import { describe, expect, it } from "vitest";
import type { Summary } from "../api/types";
import { apply, countStates, keyOf, lagLevel, matches, paginate, rateOf, select, type View } from "./feeds";

function feed(name: string, values: Partial<Summary> = {}): Summary {
  return {
    id: name,
    uid: name,
    namespace: "markets",
    name,
    createdAt: null,
    state: "Ready",
    message: "all is as declared and data flows",
    cause: null,
    symbols: 3,
    interval: "5s",
    partitionCount: 4,
    processorCount: { ready: 1, wanted: 1 },
    backlog: 0,
    arrivalPerSecond: null,
    ticksPerSecond: null,
    watermark: null,
    watermarkLagSeconds: null,
    lastTickTime: null,
    lastTickAgeSeconds: null,
    quota: null,
    market: { hours: "Always", open: true, nextOpen: null },
    quarantined: 0,
    missingMessages: 0,
    suspended: false,
    paused: false,
    observed: false,
    ...values,
  };
}

const cause = (since: string) => ({
  condition: "SourceReady",
  reason: "InvalidKey",
  message: "refused",
  since,
  needsPerson: true,
});
const view = (values: Partial<View> = {}): View => ({
  search: "",
  states: [],
  namespace: "",
  sort: "attention",
  descending: false,
  ...values,
});
const names = (feeds: Summary[]) => feeds.map((each) => each.name);

describe("order", () => {
  it("what needs a person comes first, the oldest trouble before newer, what is at rest last", () => {
    const feeds = [
      feed("asleep", { state: "Suspended" }),
      feed("well"),
      feed("new-trouble", { state: "Stalled", cause: cause("2026-11-27T14:20:00Z") }),
      feed("behind", { backlog: 9 }),
      feed("old-trouble", { state: "Stalled", cause: cause("2026-11-27T10:00:00Z") }),
      feed("wobbly", { state: "Failing", cause: cause("2026-11-27T09:00:00Z") }),
    ];
    expect(names(select(feeds, view()))).toEqual(["old-trouble", "new-trouble", "wobbly", "behind", "well", "asleep"]);
  });

  it("what is not known comes last, up and down", () => {
    const feeds = [feed("none", { backlog: null }), feed("few", { backlog: 1 }), feed("many", { backlog: 20 })];
    expect(names(select(feeds, view({ sort: "backlog" })))).toEqual(["few", "many", "none"]);
    expect(names(select(feeds, view({ sort: "backlog", descending: true })))).toEqual(["many", "few", "none"]);
  });

  it("a closed market is not late", () => {
    const closed = { hours: "Regular", open: false, nextOpen: null };
    const feeds = [
      feed("closed", { watermarkLagSeconds: 60_000, market: closed }),
      feed("late", { watermarkLagSeconds: 90 }),
    ];
    expect(names(select(feeds, view({ sort: "lag", descending: true })))).toEqual(["late", "closed"]);
    expect(lagLevel(feeds[0] as Summary, 60_000)).toBe("quiet");
    expect(lagLevel(feeds[1] as Summary, 90)).toBe("warning");
    expect(lagLevel(feeds[1] as Summary, 301)).toBe("error");
  });

  it("the list that was given stays as it was", () => {
    const feeds = [feed("b"), feed("a")];
    select(feeds, view({ sort: "name" }));
    expect(names(feeds)).toEqual(["b", "a"]);
  });
});

describe("search and filters", () => {
  const broken = feed("tech", { state: "Stalled", cause: cause("2026-11-27T10:00:00Z") });

  it("every word has to be there, in the name or in the trouble", () => {
    expect(matches(broken, "MARKETS/tech")).toBe(true);
    expect(matches(broken, "invalidkey tech")).toBe(true);
    expect(matches(broken, "invalidkey banks")).toBe(false);
    expect(matches(broken, "  ")).toBe(true);
  });

  it("states and namespace narrow it", () => {
    const feeds = [broken, feed("well"), feed("other", { namespace: "research" })];
    expect(names(select(feeds, view({ states: ["Stalled"] })))).toEqual(["tech"]);
    expect(names(select(feeds, view({ namespace: "research" })))).toEqual(["other"]);
    expect(countStates(feeds).get("Ready")).toBe(2);
  });
});

describe("the stream", () => {
  const totals = {
    feeds: 0,
    ready: 0,
    notReady: 0,
    suspended: 0,
    stalled: 0,
    backlog: 0,
    quarantined: 0,
    missingMessages: 0,
  };
  const at = "2026-11-27T14:30:00Z";

  it("a full event forgets what was there, another one changes only what it names", () => {
    const one = apply(new Map(), { at, full: true, feeds: [feed("a"), feed("b")], removed: [], totals });
    const two = apply(one, { at, full: false, feeds: [feed("a", { backlog: 7 })], removed: ["markets/b"], totals });
    expect([...two.keys()]).toEqual(["markets/a"]);
    expect(two.get("markets/a")?.backlog).toBe(7);
    expect(one.size).toBe(2);
    const three = apply(two, { at, full: true, feeds: [feed("c")], removed: [], totals });
    expect([...three.values()].map(keyOf)).toEqual(["markets/c"]);
  });
});

describe("rates and pages", () => {
  it("what is measured goes before what the operator saw", () => {
    expect(rateOf(feed("a", { arrivalPerSecond: 3 }))).toEqual({ value: 3, unit: "msg/s" });
    expect(rateOf(feed("a", { arrivalPerSecond: 3, ticksPerSecond: 0 }))).toEqual({ value: 0, unit: "ticks/s" });
  });

  it("a page that is not there is the nearest one", () => {
    const items = Array.from({ length: 101 }, (_, index) => index);
    expect(paginate(items, 3, 50)).toEqual({ items: [100], page: 3, pages: 3 });
    expect(paginate(items, 9, 50).page).toBe(3);
    expect(paginate(items, -1, 50).page).toBe(1);
    expect(paginate([], 1, 50)).toEqual({ items: [], page: 1, pages: 1 });
  });
});
