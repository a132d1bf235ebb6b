// The way of a tick as it is drawn: what there is too much of is folded, then everything gets its place. Pure.

import { Graph as Dagre, type EdgeLabel, type GraphLabel, layout, type NodeLabel } from "@dagrejs/dagre";
import type { Graph, GraphEdge, GraphNode, Level, NodeStatus } from "../api/types";

/** So many steps side by side are still read; of more, those that are well are folded into one. */
export const MOST_IN_A_LAYER = 8;

const WORST: readonly NodeStatus[] = ["error", "warning", "unknown", "idle", "ok"];
const LEVELS: readonly Level[] = ["ok", "low", "high"];

export interface Box {
  node: GraphNode;
  x: number;
  y: number;
}

export interface Line {
  edge: GraphEdge;
  points: { x: number; y: number }[];
  label: { x: number; y: number };
}

export interface Drawing {
  width: number;
  height: number;
  boxes: Box[];
  lines: Line[];
}

export const BOX = { width: 178, height: 66 };

const isWell = (node: GraphNode) => node.status === "ok" || node.status === "idle";

/** Sums of what can be summed; of lags and ratios the greatest. */
function combine(nodes: readonly GraphNode[]): Record<string, number | null> {
  const result: Record<string, number | null> = {};
  for (const { figures } of nodes) {
    for (const [name, value] of Object.entries(figures)) {
      const known = result[name] ?? null;
      if (value === null || known === null) result[name] = value ?? known;
      else if (/Seconds|busy|idle|backpressured/.test(name)) result[name] = Math.max(known, value);
      else result[name] = known + value;
    }
  }
  return result;
}

const sum = (one: number | null, other: number | null) => (one === null ? other : other === null ? one : one + other);
const most = (one: number | null, other: number | null) =>
  one === null ? other : other === null ? one : Math.max(one, other);

/** Folds steps that are well where a layer has too many. What is in trouble is never hidden. */
export function fold(graph: Pick<Graph, "nodes" | "edges">, limit = MOST_IN_A_LAYER): Pick<Graph, "nodes" | "edges"> {
  const replaced = new Map<string, string>();
  const nodes: GraphNode[] = [];
  for (const layer of new Set(graph.nodes.map((node) => node.layer))) {
    const all = graph.nodes.filter((node) => node.layer === layer);
    const well = all.filter(isWell);
    if (all.length <= limit || well.length < 2) {
      nodes.push(...all);
      continue;
    }
    const kind = well[0]?.kind ?? "queue";
    const id = `folded:${layer}`;
    for (const node of well) replaced.set(node.id, id);
    nodes.push(...all.filter((node) => !isWell(node)));
    nodes.push({
      id,
      kind,
      layer,
      title: `${well.length} ${kind === "queue" ? "partitions" : "processors"}`,
      status: WORST.find((status) => well.some((node) => node.status === status)) ?? "ok",
      detail: null,
      figures: combine(well),
    });
  }
  const edges = new Map<string, GraphEdge>();
  for (const edge of graph.edges) {
    const from = replaced.get(edge.from) ?? edge.from;
    const to = replaced.get(edge.to) ?? edge.to;
    const id = `${from}>${to}`;
    const known = edges.get(id);
    edges.set(id, {
      id,
      from,
      to,
      messagesPerSecond: known ? sum(known.messagesPerSecond, edge.messagesPerSecond) : edge.messagesPerSecond,
      ticksPerSecond: known ? sum(known.ticksPerSecond, edge.ticksPerSecond) : edge.ticksPerSecond,
      backpressure: known ? most(known.backpressure, edge.backpressure) : edge.backpressure,
      level: known ? worstLevel(known.level, edge.level) : edge.level,
    });
  }
  return { nodes, edges: [...edges.values()] };
}

function worstLevel(one: Level | null, other: Level | null): Level | null {
  if (one === null || other === null) return one ?? other;
  return LEVELS.indexOf(one) > LEVELS.indexOf(other) ? one : other;
}

/** Gives everything its place, from left to right. Edges to what is not there are left out. */
export function place(graph: Pick<Graph, "nodes" | "edges">): Drawing {
  const dagre = new Dagre<GraphLabel, NodeLabel, EdgeLabel>();
  dagre.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 40, marginx: 4, marginy: 4 });
  const ids = new Set(graph.nodes.map((node) => node.id));
  for (const node of graph.nodes) dagre.setNode(node.id, { ...BOX });
  const edges = graph.edges.filter((edge) => ids.has(edge.from) && ids.has(edge.to));
  for (const edge of edges) dagre.setEdge(edge.from, edge.to, { width: 74, height: 30, labelpos: "c" });
  layout(dagre);
  const { width = 0, height = 0 } = dagre.graph();
  const at = new Map(
    graph.nodes.map((node) => {
      const { x = 0, y = 0 } = dagre.node(node.id);
      return [node.id, { x, y }] as const;
    }),
  );
  const queues = graph.nodes.filter((node) => node.kind === "queue").map((node) => at.get(node.id)?.y ?? 0);
  // The layout knows no top: the first partition comes first where that costs nothing.
  const upsideDown = (queues[0] ?? 0) > (queues.at(-1) ?? 0);
  const turn = (point: { x: number; y: number }) => ({ x: point.x, y: upsideDown ? height - point.y : point.y });
  const center = (id: string) => turn(at.get(id) ?? { x: 0, y: 0 });
  return {
    width,
    height,
    boxes: graph.nodes.map((node) => ({ node, ...center(node.id) })),
    lines: edges.map((edge) => {
      const { points = [], x = 0, y = 0 } = dagre.edge(edge.from, edge.to);
      const [from, to] = [center(edge.from), center(edge.to)];
      return {
        edge,
        // Out of the middle of one side and into the middle of the other.
        points: [
          { x: from.x + BOX.width / 2, y: from.y },
          ...points.slice(1, -1).map(turn),
          { x: to.x - BOX.width / 2, y: to.y },
        ],
        label: turn({ x, y }),
      };
    }),
  };
}

/** A smooth path through points. */
export function path(points: readonly { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let text = `M${round(first.x)},${round(first.y)}`;
  let before = first;
  for (const point of rest) {
    const middle = (before.x + point.x) / 2;
    text += `C${round(middle)},${round(before.y)} ${round(middle)},${round(point.y)} ${round(point.x)},${round(point.y)}`;
    before = point;
  }
  return text;
}

const round = (value: number) => Math.round(value * 10) / 10;
