// A feed's stages in the order in which data flows, and what its trouble means. Pure.

import type { Condition, Detail, FeedState } from "../api/types";

export const STAGES = [
  { type: "SourceReady", title: "Source" },
  { type: "BrokerReady", title: "Broker" },
  { type: "SchemaReady", title: "Schema" },
  { type: "ProducerReady", title: "Producer" },
  { type: "ProcessorReady", title: "Processor" },
] as const;

export type StageLevel = "ok" | "cause" | "follows" | "pending" | "unknown";

export interface Stage {
  type: string;
  title: string;
  level: StageLevel;
  reason: string;
  message: string;
  since: string | null;
}

/** Each stage; of those that do not work the cause is told apart from what comes after it. */
export function stages(detail: Pick<Detail, "conditions" | "cause">): Stage[] {
  return STAGES.map(({ type, title }) => {
    const condition = detail.conditions.find((candidate) => candidate.type === type);
    if (!condition) return { type, title, level: "unknown", reason: "not told", message: "", since: null };
    const { reason, message, since } = condition;
    return { type, title, level: level(condition, detail.cause?.condition), reason, message, since };
  });
}

function level(condition: Condition, cause: string | undefined): StageLevel {
  if (condition.type === cause) return "cause";
  if (condition.status === "True") return "ok";
  if (condition.status === "Unknown") return "unknown";
  return condition.bad ? "follows" : "pending";
}

/** The words for it that a screen reader says, and that stand in the page. */
export const LEVEL_WORDS: Record<StageLevel, string> = {
  ok: "works",
  cause: "root cause",
  follows: "does not work either",
  pending: "under way",
  unknown: "not known",
};

export type Tone = "ok" | "warning" | "error" | "busy" | "quiet";

/** How a state looks. */
export function tone(state: FeedState): Tone {
  switch (state) {
    case "Ready":
      return "ok";
    case "Stalled":
    case "Unreadable":
      return "error";
    case "Failing":
    case "Unknown":
      return "warning";
    case "Suspended":
      return "quiet";
    default:
      return "busy";
  }
}

/** What a person has to do about a state. */
export function advice(detail: Pick<Detail, "state" | "cause">): string {
  switch (detail.state) {
    case "Stalled":
      return "Nothing changes until a person acts.";
    case "Failing":
      return detail.cause?.needsPerson
        ? "Nothing changes until a person acts."
        : "It is tried again, and may come back by itself.";
    case "Progressing":
      return "Something is under way; no need to act yet.";
    case "Draining":
      return "What is queued is still being stored.";
    case "Unknown":
      return "Is the operator running?";
    case "Unreadable":
      return "The object cannot be read; correct it or delete it.";
    default:
      return "";
  }
}
