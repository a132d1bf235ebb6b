// A mock of the dashboard's server, for tests of the page alone. It answers as docs/dashboard-api.md says, with made-up feeds; the
// end-to-end test opens the same pages against the real one.
//
// node tests/mock.mjs            MOCK_PORT, MOCK_FEEDS (1000), MOCK_STREAM=off, MOCK_ACTIONS=off

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { checkpoints, detail, errors, events, graph, history, point, quarantine, scaling } from "./mock-feed.mjs";
import { all, candles, find, totals } from "./mock-feeds.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
/** Just what the real server sends. */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
};
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
export const TOKEN = "mock-token";

export function start({ port = 0, feeds = 1000, stream = true, actions = true } = {}) {
  const world = { feeds: all(feeds), began: Date.now(), stream, actions, streams: new Set() };
  const server = createServer((request, response) => {
    answer(world, request, response).catch((error) =>
      fail(response, error.status ?? 500, error.code ?? "Internal", error.message),
    );
  });
  return new Promise((resolve) => {
    server.listen(port, "127.0.0.1", () => {
      resolve({
        url: `http://127.0.0.1:${server.address().port}`,
        world,
        close: () => {
          for (const open of world.streams) open.destroy();
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}

function send(response, status, value) {
  response.writeHead(status, { ...HEADERS, "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(value));
}

function fail(response, status, code, message, remedy = null) {
  send(response, status, { error: { code, message, remedy } });
}

async function answer(world, request, response) {
  const url = new URL(request.url, "http://mock");
  if (world.down) return request.socket.destroy();
  if (url.pathname.startsWith("/api/v1/")) return api(world, request, response, url);
  const name = url.pathname === "/" || url.pathname.startsWith("/feeds") ? "index.html" : url.pathname.slice(1);
  try {
    const data = await readFile(join(DIST, normalize(name)));
    response.writeHead(200, { ...HEADERS, "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" });
    response.end(data);
  } catch {
    fail(response, 404, "NotFound", `there is nothing at ${url.pathname}`);
  }
}

function api(world, request, response, url) {
  const now = new Date();
  const segments = url.pathname.slice("/api/v1/".length).split("/").map(decodeURIComponent);
  const known = request.headers.authorization === `Bearer ${TOKEN}`;
  const [first, namespace, name, part, action] = segments;
  if (first === "session") {
    return send(response, 200, {
      version: "0.1.0",
      now: now.toISOString(),
      actions: {
        enabled: world.actions,
        names: ["suspend", "resume", "restart", "drain", "checkpoint"],
        header: "X-StockFeed-Request",
      },
      user: known ? { name: "alice@example.com", groups: ["markets-admins"] } : null,
      watchNamespaces: [],
      observeEverySeconds: 5,
      feeds: world.feeds.length,
    });
  }
  if (first === "stream") return stream(world, response, url);
  if (first !== "feeds") return fail(response, 404, "NotFound", "no such path");
  if (namespace === undefined) {
    const feeds = world.feeds.map((feed) => feed(now));
    return send(response, 200, { at: now.toISOString(), totals: totals(feeds), feeds });
  }
  const feed = find(world.feeds, namespace, name, now);
  if (!feed)
    return fail(response, 404, "NotFound", `there is no feed ${namespace}/${name}`, "GET /api/v1/feeds lists them");
  switch (part) {
    case undefined:
      return send(response, 200, detail(feed, now));
    case "graph":
      return send(response, 200, graph(feed, now));
    case "candles":
      return send(response, 200, candles(url.searchParams, now));
    case "checkpoints":
      return send(response, 200, checkpoints(feed, now));
    case "events":
      return send(response, 200, events(feed, now));
    case "errors":
      return send(response, 200, errors(feed, now));
    case "quarantine":
      // One feed's trouble must not blank its page.
      if (name === "crypto")
        return fail(
          response,
          503,
          "Unavailable",
          "the feed's database cannot be read: connection refused",
          "is PostgreSQL up?",
        );
      return send(response, 200, quarantine(feed, now, url.searchParams.get("reason")));
    case "scaling":
      return send(response, 200, scaling(feed, now));
    case "history":
      return send(response, 200, history(feed, now));
    case "actions":
      return act(world, request, response, feed, action, known);
    default:
      return fail(response, 404, "NotFound", "no such path");
  }
}

function act(world, request, response, feed, action, known) {
  if (request.method !== "POST") return fail(response, 405, "MethodNotAllowed", "an action is a POST");
  if (!world.actions) return fail(response, 403, "ActionsOff", "the installation has no actions");
  if (request.headers["x-stockfeed-request"] !== "1")
    return fail(response, 403, "Forbidden", "the header X-StockFeed-Request: 1 is missing");
  if (!known)
    return fail(
      response,
      401,
      "Unauthenticated",
      "the API server does not know this token",
      "kubectl create token makes one",
    );
  const key = `${feed.namespace}/${feed.name}`;
  const base = { action, feed: key, user: "alice@example.com" };
  if (action !== "checkpoint")
    return send(response, 202, {
      ...base,
      message: `${key}: ${action} is under way`,
      follow: "condition Suspended",
      checkpoints: null,
    });
  return send(response, 200, {
    ...base,
    message: "4 of 4 partitions hold nothing that is not committed",
    follow: null,
    checkpoints: [0, 1, 2, 3].map((partition) => ({ partition: `1.${partition}`, checkpoint: 4712, complete: true })),
  });
}

function stream(world, response, url) {
  if (!world.stream) return fail(response, 429, "TooMany", "too many streams");
  response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  world.streams.add(response.socket);
  const write = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const key = url.searchParams.get("feed");
  const tick = (full) => {
    const now = new Date();
    if (key) {
      const [namespace, name] = key.split("/");
      const feed = find(world.feeds, namespace, name, now);
      if (!feed) return write("gone", { feed: key });
      const seen = detail(feed, now);
      write("feed", seen);
      return write("point", point(feed, now));
    }
    const feeds = (full ? world.feeds : world.feeds.slice(0, 20)).map((feed) => feed(now));
    return write("feeds", { at: now.toISOString(), full, feeds, removed: [], totals: totals(feeds) });
  };
  tick(true);
  const timer = setInterval(() => tick(false), key ? 2000 : 1000);
  response.on("close", () => {
    clearInterval(timer);
    world.streams.delete(response.socket);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start({
    port: Number(process.env.MOCK_PORT ?? 8081),
    feeds: Number(process.env.MOCK_FEEDS ?? 1000),
    stream: process.env.MOCK_STREAM !== "off",
    actions: process.env.MOCK_ACTIONS !== "off",
  });
  console.log(`a mock, with made-up feeds: ${url}`);
}
