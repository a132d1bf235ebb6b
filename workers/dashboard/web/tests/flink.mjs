// The web page of Apache Flink, unmodified, in front of the dashboard's REST API: each of its pages opens without an error in the page,
// an error message, or a request that fails, and shows what the feed is made of.
//
// DASHBOARD_URL        a dashboard that runs
// DASHBOARD_FEED       the feed whose pages are opened
// DASHBOARD_ARTEFACTS  where pictures go
// FLINK_UI             the folder of Flink's page: no part of this project, fetched for the time of the test
// CHROMIUM             the browser, /usr/bin/chromium

import { createReadStream } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { createServer, request } from "node:http";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { ATTEMPTS, NETWORK_CHANGED } from "./browser-page.mjs";

const PATIENCE_MILLISECONDS = 40_000;
/** How long a page may take to ask for what it shows. */
const SETTLE_MILLISECONDS = 1_200;
const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
};

const dashboard = required("DASHBOARD_URL");
const feed = required("DASHBOARD_FEED");
const artefacts = join(required("DASHBOARD_ARTEFACTS"), "flink");

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run cargo xtask test`);
  return value;
}

/** Serves the page's files, and hands everything else to the dashboard: as a job manager of Flink does. */
async function serve(folder) {
  const server = createServer(async (incoming, answer) => {
    const { pathname } = new URL(incoming.url, "http://localhost");
    const file = join(folder, normalize(pathname === "/" ? "/index.html" : pathname));
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) {
      answer.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
      createReadStream(file).pipe(answer);
      return;
    }
    const onward = request(new URL(incoming.url, dashboard), { method: incoming.method }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    onward.on("error", (error) => answer.writeHead(502).end(error.message));
    incoming.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { base: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

async function ask(path) {
  const answer = await fetch(new URL(path, dashboard));
  if (!answer.ok) throw new Error(`${answer.status} of ${path}`);
  return answer.json();
}

const { jobs } = await ask("/jobs/overview");
const job = jobs.find((one) => one.name === feed);
if (!job) throw new Error(`no job is named ${feed}`);
const { vertices } = await ask(`/jobs/${job.jid}`);
const { taskmanagers } = await ask("/taskmanagers");
const ours = taskmanagers.find((one) => one.id.startsWith(feed.replace("/", ":")));
if (!ours) throw new Error(`no task manager is of ${feed}`);

const ofJob = `/job/running/${job.jid}`;
const drawer = (vertex, tab) => `${ofJob}/overview/${vertex.id}/${tab}`;
const tabs = [
  "detail",
  "subtasks",
  "taskmanagers",
  "watermarks",
  "accumulators",
  "backpressure",
  "metrics",
  "flamegraph",
];
// All tabs of the vertex that has the most to show, and one of each other.
const busiest = vertices[1];
const routes = [
  "/overview",
  "/job/running",
  "/job/completed",
  ...["overview", "timeline", "exceptions", "checkpoints", "configuration", "dataskew"].map((tab) => `${ofJob}/${tab}`),
  ...tabs.map((tab) => drawer(busiest, tab)),
  ...vertices.filter((vertex) => vertex !== busiest).map((vertex) => drawer(vertex, "subtasks")),
  "/task-manager",
  ...["metrics", "logs", "stdout", "log", "thread-dump", "profiler"].map((tab) => `/task-manager/${ours.id}/${tab}`),
  ...["metrics", "config", "logs", "stdout", "log", "thread-dump", "profiler"].map((tab) => `/job-manager/${tab}`),
];
/** What a page must show. Without it a page that is blank would pass. */
const shows = new Map([
  ["/overview", feed],
  ["/job/running", feed],
  [`${ofJob}/overview`, vertices[0].name],
  [`${ofJob}/checkpoints`, "Latest Completed Checkpoint"],
  [`${ofJob}/exceptions`, "Root Exception"],
  [drawer(busiest, "backpressure"), "Back Pressure Status"],
  ["/task-manager", ours.id],
  [`/task-manager/${ours.id}/metrics`, "Flink Memory Model"],
  ["/job-manager/config", "stockfeed.version"],
]);

await mkdir(artefacts, { recursive: true });
const server = await serve(required("FLINK_UI"));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // In a container, and for root, Chromium's own sandbox cannot be made.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
let failed = 0;
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  page.setDefaultTimeout(PATIENCE_MILLISECONDS);
  let wrong = new Set();
  page.on("pageerror", (error) => wrong.add(`an error in the page: ${error.message}`));
  page.on("response", (response) => {
    if (response.status() >= 400) wrong.add(`${response.status()} of ${new URL(response.url()).pathname}`);
  });
  page.on("requestfailed", (one) => {
    // What the page gave up itself, because something else is looked at by now.
    if (one.failure()?.errorText !== "net::ERR_ABORTED") wrong.add(`${one.url()}: ${one.failure()?.errorText}`);
  });
  for (const route of routes) {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      await open(route, attempt > 1);
      if (![...wrong].some((one) => one.includes(NETWORK_CHANGED))) break;
      console.log(`again  ${route}: the network changed`);
    }
    await page.screenshot({ path: join(artefacts, `${route.slice(1).replaceAll(/[/:]/g, "_")}.png`) });
    if (wrong.size > 0) failed += 1;
    console.log(`${wrong.size > 0 ? "FAILED" : "ok    "} ${route}${[...wrong].map((one) => `\n  ${one}`).join("")}`);
  }

  async function open(route, again) {
    wrong = new Set();
    try {
      await page.goto(`${server.base}/#${route}`);
      if (again) await page.reload();
      await page.waitForSelector(".ant-layout");
      const text = shows.get(route);
      if (text) await page.getByText(text).first().waitFor();
      if (route === `${ofJob}/overview`) {
        await page.waitForSelector('flink-svg-container[style*="visible"]');
        const nodes = await page.locator("flink-svg-container .node-group").count();
        if (nodes !== vertices.length) wrong.add(`the graph has ${nodes} vertices of ${vertices.length}`);
      }
      await page.waitForTimeout(SETTLE_MILLISECONDS);
      for (const toast of await page.locator(".ant-notification-notice, .ant-message-error").all())
        wrong.add(`it says: ${await toast.textContent()}`);
    } catch (error) {
      wrong.add(error.message.split("\n").slice(0, 4).join("\n"));
    }
  }
} finally {
  await browser.close();
  server.close();
}
console.log(`${routes.length - failed} of ${routes.length} pages of Flink's opened; pictures are in ${artefacts}`);
process.exit(failed > 0 ? 1 : 0);
