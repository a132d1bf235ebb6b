import { describe, expect, it } from "vitest";
import type { Condition, Detail } from "../api/types";
import { advice, stages } from "./stages";

const condition = (type: string, status: Condition["status"], bad: boolean, reason = "Some"): Condition => ({
  type,
  status,
  reason,
  message: "",
  since: "2026-11-27T14:00:00Z",
  bad,
  needsPerson: false,
});

describe("stages", () => {
  it("tell the cause from what follows, from what waits and from what is not told", () => {
    const detail: Pick<Detail, "conditions" | "cause"> = {
      conditions: [
        condition("ProducerReady", "False", true),
        condition("SourceReady", "False", true, "InvalidKey"),
        condition("BrokerReady", "True", false),
        condition("ProcessorReady", "False", false, "Progressing"),
      ],
      cause: { condition: "SourceReady", reason: "InvalidKey", message: "", since: "", needsPerson: true },
    };
    expect(stages(detail).map(({ title, level }) => `${title} ${level}`)).toEqual([
      "Source cause",
      "Broker ok",
      "Schema unknown",
      "Producer follows",
      "Processor pending",
    ]);
  });

  it("whether somebody has to act is said as the cause says it", () => {
    const cause = { condition: "SourceReady", reason: "x", message: "", since: "", needsPerson: true };
    expect(advice({ state: "Failing", cause })).toContain("person");
    expect(advice({ state: "Failing", cause: { ...cause, needsPerson: false } })).toContain("by itself");
    expect(advice({ state: "Ready", cause: null })).toBe("");
  });
});
