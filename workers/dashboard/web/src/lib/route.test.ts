import { describe, expect, it } from "vitest";
import { feedPath, parse, query, TABS } from "./route";

describe("paths", () => {
  it("every page of a feed comes back from its own path", () => {
    for (const tab of TABS) {
      expect(parse(feedPath("markets", "tech", tab))).toEqual({
        page: "feed",
        namespace: "markets",
        name: "tech",
        tab,
      });
    }
  });

  it.each(["/", "", "/feeds", "/feeds/"])("%s is the overview", (path) => {
    expect(parse(path)).toEqual({ page: "overview" });
  });

  it.each([
    "/feeds/markets",
    "/feeds/markets/tech/nothing",
    "/feeds/markets/tech/candles/more",
    "/jobs",
    "/feeds/%E0%A4%A/x",
  ])("%s is unknown, and breaks nothing", (path) => {
    expect(parse(path).page).toBe("unknown");
  });
});

describe("queries", () => {
  it("leave out what is empty", () => {
    expect(query({ q: "", state: null, page: 2, symbol: "BRK B" })).toBe("?page=2&symbol=BRK+B");
    expect(query({ q: undefined })).toBe("");
  });
});
