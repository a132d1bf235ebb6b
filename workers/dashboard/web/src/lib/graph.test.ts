import { describe, expect, it } from "vitest";
import type { GraphEdge, GraphNode, NodeStatus } from "../api/types";
import { BOX, fold, path, place } from "./graph";

const node = (id: string, layer: number, status: NodeStatus = "ok", figures: GraphNode["figures"] = {}): GraphNode => ({
  id,
  kind: layer === 2 ? "queue" : layer === 3 ? "processor" : "source",
  layer,
  title: id,
  status,
  detail: null,
  figures,
});
const edge = (from: string, to: string, values: Partial<GraphEdge> = {}): GraphEdge => ({
  id: `${from}>${to}`,
  from,
  to,
  messagesPerSecond: null,
  ticksPerSecond: 1,
  backpressure: 0.1,
  level: "ok",
  ...values,
});

function wide(partitions: number, sick: number[]) {
  const queues = Array.from({ length: partitions }, (_, index) =>
    node(`queue:1.${index}`, 2, sick.includes(index) ? "warning" : "ok", { ready: 2, watermarkLagSeconds: index }),
  );
  return {
    nodes: [node("producer", 1), ...queues, node("processor:a", 3)],
    edges: queues.flatMap(({ id }, index) => [
      edge("producer", id, { ticksPerSecond: null, backpressure: null, level: null }),
      edge(id, "processor:a", index === 1 ? { backpressure: 0.7, level: "high" } : {}),
    ]),
  };
}

describe("folding", () => {
  it("leaves a small graph as it is", () => {
    const graph = wide(4, []);
    expect(fold(graph)).toEqual(graph);
  });

  it("makes one of many that are well, and hides none that is not", () => {
    const folded = fold(wide(64, [7]));
    expect(folded.nodes.map(({ title }) => title)).toEqual(["producer", "queue:1.7", "63 partitions", "processor:a"]);
    const all = folded.nodes.find(({ id }) => id === "folded:2");
    expect(all?.figures).toEqual({ ready: 126, watermarkLagSeconds: 63 });
    const out = folded.edges.find(({ id }) => id === "folded:2>processor:a");
    expect(out).toMatchObject({ ticksPerSecond: 63, backpressure: 0.7, level: "high" });
    expect(folded.edges.find(({ id }) => id === "producer>folded:2")).toMatchObject({
      ticksPerSecond: null,
      level: null,
    });
  });
});

describe("places", () => {
  it("follow the data from left to right, and nothing lies on another", () => {
    const drawing = place(wide(4, []));
    const at = (id: string) => drawing.boxes.find((box) => box.node.id === id) ?? { x: Number.NaN, y: Number.NaN };
    expect(at("producer").x).toBeLessThan(at("queue:1.0").x);
    expect(at("queue:1.0").x).toBeLessThan(at("processor:a").x);
    const ys = [0, 1, 2, 3].map((index) => at(`queue:1.${index}`).y).sort((one, other) => one - other);
    for (let index = 1; index < ys.length; index += 1) {
      expect((ys[index] ?? 0) - (ys[index - 1] ?? 0)).toBeGreaterThanOrEqual(BOX.height);
    }
    expect(drawing.lines).toHaveLength(8);
    expect(drawing.width).toBeGreaterThan(0);
  });

  it("an edge to what is not there breaks nothing", () => {
    expect(place({ nodes: [node("a", 0)], edges: [edge("a", "gone")] }).lines).toEqual([]);
  });

  it("a path goes through its points", () => {
    expect(path([])).toBe("");
    expect(
      path([
        { x: 0, y: 0 },
        { x: 10, y: 4 },
      ]),
    ).toBe("M0,0C5,0 5,4 10,4");
  });
});
