import { useMemo } from "preact/hooks";
import type { Graph, GraphEdge, GraphNode, NodeStatus } from "../api/types";
import { count, duration, number, percent, rate, UNKNOWN } from "../lib/format";
import { BOX, fold, path, place } from "../lib/graph";
import { Table } from "./bits";

const WORDS: Record<NodeStatus, string> = {
  ok: "works",
  idle: "idle",
  warning: "look here",
  error: "does not work",
  unknown: "not known",
};
const GLYPHS: Record<NodeStatus, string> = { ok: "✓", idle: "‖", warning: "!", error: "✕", unknown: "?" };
const KINDS: Record<GraphNode["kind"], string> = {
  source: "source",
  producer: "producer",
  queue: "partition",
  processor: "windows",
  database: "sink",
};

/** The two lines of figures in a box. */
export function figures(node: GraphNode): string[] {
  const of = (name: string) => node.figures[name] ?? null;
  switch (node.kind) {
    case "source":
      return [
        `${rate(of("requestsPerSecond"))} requests/s`,
        of("requestSecondsP95") === null ? "" : `p95 ${duration(of("requestSecondsP95"))}`,
      ];
    case "producer":
      return [`${rate(of("messagesPerSecond"))} msg/s`, `spool ${number(of("spoolMessages"))}`];
    case "queue":
      return [
        `${number(of("ready"))} queued`,
        of("consumers") === 0 ? "no consumer" : `lag ${duration(of("watermarkLagSeconds"))}`,
      ];
    case "processor":
      return [
        `busy ${percent(of("busy"))} · bp ${percent(of("backpressured"))}`,
        `lag ${duration(of("watermarkLagSeconds"))}`,
      ];
    default:
      return [`commit p95 ${duration(of("commitSecondsP95"))}`];
  }
}

const rateOf = (edge: GraphEdge) => {
  if (edge.ticksPerSecond !== null) return rate(edge.ticksPerSecond, "t/s");
  return edge.messagesPerSecond === null ? null : rate(edge.messagesPerSecond, "m/s");
};

const short = (text: string, most: number) =>
  text.length > most ? `${text.slice(0, most - 9)}…${text.slice(-8)}` : text;

/** The way of a tick. As a drawing where there is room, as a list where there is not, and as a table for whoever wants figures. */
export function GraphView({ graph, windows }: { graph: Graph; windows: string[] }) {
  const folded = useMemo(() => fold(graph), [graph]);
  const drawing = useMemo(() => place(folded), [folded]);
  const sick = graph.nodes.filter((node) => node.status === "error" || node.status === "warning");
  const label = `${count(graph.nodes.length, "step")} from source to sink; ${
    sick.length === 0
      ? "none is in trouble"
      : sick.map((node) => `${node.title} ${node.detail ?? WORDS[node.status]}`).join(", ")
  }`;
  return (
    <>
      <svg
        class="graph"
        viewBox={`0 0 ${drawing.width} ${drawing.height}`}
        width={drawing.width}
        role="img"
        aria-label={label}
      >
        <defs>
          {["ok", "low", "high", "none"].map((level) => (
            <marker
              key={level}
              id={`arrow-${level}`}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerUnits="userSpaceOnUse"
              markerWidth="9"
              markerHeight="9"
              orient="auto"
            >
              <path class={`arrow ${level}`} d="M0,0L8,4L0,8z" />
            </marker>
          ))}
        </defs>
        {drawing.lines.map(({ edge, points }) => (
          <path
            key={edge.id}
            class={`edge ${edge.level ?? "none"} ${(edge.ticksPerSecond ?? 0) > 0 ? "flows" : ""}`}
            d={path(points)}
            marker-end={`url(#arrow-${edge.level ?? "none"})`}
          />
        ))}
        {drawing.lines.map(({ edge, label: at }) => {
          const [flow, pressure] = [rateOf(edge), edge.backpressure];
          if (flow === null && pressure === null) return null;
          return (
            <g key={edge.id} class={`edge-label ${edge.level ?? "none"}`} transform={`translate(${at.x},${at.y})`}>
              <rect x={-37} y={-15} width={74} height={30} rx={4} />
              {flow !== null && <text y={pressure === null ? 4 : -3}>{flow}</text>}
              {pressure !== null && (
                <text class="pressure" y={flow === null ? 4 : 10}>
                  bp {percent(pressure)}
                </text>
              )}
            </g>
          );
        })}
        {drawing.boxes.map(({ node, x, y }) => (
          <g
            key={node.id}
            class={`node ${node.status}`}
            transform={`translate(${x - BOX.width / 2},${y - BOX.height / 2})`}
          >
            <title>{`${node.title}: ${node.detail ?? WORDS[node.status]}`}</title>
            <rect width={BOX.width} height={BOX.height} rx={8} />
            <rect class="stripe" width={5} height={BOX.height} rx={2} />
            <text class="kind" x={14} y={16}>
              {node.kind === "processor" && windows.length > 0
                ? `windows ${short(windows.join(" "), 22)}`
                : KINDS[node.kind]}
            </text>
            <text class="glyph" x={BOX.width - 12} y={17}>
              {GLYPHS[node.status]}
            </text>
            <text class="title" x={14} y={33}>
              {short(node.title, 19)}
            </text>
            <text class="figures" x={14} y={48}>
              {figures(node)[0]}
            </text>
            <text class="figures" x={14} y={60}>
              {node.detail && node.status !== "ok" ? short(node.detail, 30) : (figures(node)[1] ?? "")}
            </text>
          </g>
        ))}
      </svg>
      <ol class="graph-list" aria-label={label}>
        {folded.nodes.map((node) => {
          const entering = folded.edges.filter((edge) => edge.to === node.id);
          const flow = entering.reduce<number | null>(
            (sum, edge) => (edge.ticksPerSecond === null ? sum : (sum ?? 0) + edge.ticksPerSecond),
            null,
          );
          const pressure = entering.reduce<number | null>(
            (most, edge) => (edge.backpressure === null ? most : Math.max(most ?? 0, edge.backpressure)),
            null,
          );
          return (
            <li key={node.id} class={`step ${node.status}`}>
              {(flow !== null || pressure !== null) && (
                <span class="in">
                  ↓ {flow === null ? "" : rate(flow, "ticks/s")}{" "}
                  {pressure === null ? "" : `backpressure ${percent(pressure)}`}
                </span>
              )}
              <span class="kind">{KINDS[node.kind]}</span> <b>{node.title}</b>
              <span class="figures">{figures(node).filter(Boolean).join(" · ")}</span>
              <span class="status">
                {GLYPHS[node.status]} {node.detail ?? WORDS[node.status]}
              </span>
            </li>
          );
        })}
      </ol>
      <details>
        <summary>Every edge as a table</summary>
        <Table label="Edges of the graph">
          <thead>
            <tr>
              <th scope="col">From</th>
              <th scope="col">To</th>
              <th scope="col" class="number">
                Ticks/s
              </th>
              <th scope="col" class="number">
                Messages/s
              </th>
              <th scope="col" class="number">
                Backpressure
              </th>
            </tr>
          </thead>
          <tbody>
            {graph.edges.map((edge) => (
              <tr key={edge.id}>
                <td>{titleOf(graph, edge.from)}</td>
                <td>{titleOf(graph, edge.to)}</td>
                <td class="number">{rate(edge.ticksPerSecond)}</td>
                <td class="number">{rate(edge.messagesPerSecond)}</td>
                <td class="number">
                  {edge.backpressure === null ? UNKNOWN : `${percent(edge.backpressure)} ${edge.level ?? ""}`}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      </details>
    </>
  );
}

const titleOf = (graph: Graph, id: string) => graph.nodes.find((node) => node.id === id)?.title ?? id;
