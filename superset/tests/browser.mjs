// Logs in to Superset, opens dashboards in Chromium, tab by tab, and waits until every chart is drawn. A card with an error, an empty
// card, an error on the console or a failed request fails it. A picture of each tab is kept.
//
// SUPERSET_URL         where Superset is
// SUPERSET_USERNAME    who looks, admin
// SUPERSET_PASSWORD    the password
// SUPERSET_DASHBOARDS  slugs of the dashboards, by commas
// SUPERSET_ARTEFACTS   where pictures and report.json go
// SUPERSET_EMPTY       titles of charts that may be without results, by commas
// SUPERSET_BROWSER_FROM  a package.json beside which playwright-core is installed, that of workers/dashboard/web
// CHROMIUM             the browser, /usr/bin/chromium

import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// The browser is driven by what the dashboard's own page is tested with (`cargo xtask web`).
const web = new URL("../../workers/dashboard/web/package.json", import.meta.url);
const { chromium } = createRequire(process.env.SUPERSET_BROWSER_FROM ?? web)("playwright-core");

/** A machine that builds something else beside is slow, and Superset's first page is many megabytes. */
const PATIENCE_MILLISECONDS = 120_000;
/** For each step of a login, which is tried again when nothing comes of it. */
const LOGIN_MILLISECONDS = 40_000;
const WIDTH = 1500;
/**
 * Chromium gives up every request when the machine gets or loses an address, which it does with each pod of a cluster that runs
 * on it. That says nothing of Superset: what was being looked at is looked at again.
 */
const NETWORK_CHANGED = "ERR_NETWORK_CHANGED";
const ATTEMPTS = 5;

const base = required("SUPERSET_URL").replace(/\/$/, "");
const username = process.env.SUPERSET_USERNAME ?? "admin";
const password = required("SUPERSET_PASSWORD");
const slugs = list("SUPERSET_DASHBOARDS");
const mayBeEmpty = list("SUPERSET_EMPTY");
const artefacts =
  process.env.SUPERSET_ARTEFACTS ?? fileURLToPath(new URL("../../target/test/superset", import.meta.url));

await mkdir(artefacts, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // In a container, and for root, Chromium's own sandbox cannot be made.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
const report = { url: base, username, dashboards: {}, again: 0, wrong: [] };
try {
  // High enough that no chart is below the edge: those are not drawn before somebody scrolls to them.
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 3200 }, locale: "en-GB", timezoneId: "UTC" });
  watch(page);
  page.setDefaultTimeout(LOGIN_MILLISECONDS);
  // Also when it says nothing: a page that lacks one of its scripts, or was not reached, does nothing.
  await undisturbed(() => login(page), (error) => error.name === "TimeoutError");
  page.setDefaultTimeout(PATIENCE_MILLISECONDS);
  for (const slug of slugs) report.dashboards[slug] = await undisturbed(() => dashboard(page, slug));
} catch (error) {
  report.wrong.push(error.message);
} finally {
  await browser.close();
}
await writeFile(join(artefacts, `report-${username}.json`), JSON.stringify(report, null, 2));
if (report.wrong.length > 0) {
  console.error(report.wrong.join("\n"));
  process.exitCode = 1;
}

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

function list(name) {
  return (process.env[name] ?? "").split(",").filter((item) => item !== "");
}

/** Does something again while the network changes under it, or `again` says so of an error. */
async function undisturbed(work, again = () => false) {
  for (let attempt = 1; ; attempt += 1) {
    const before = report.wrong.length;
    let failed = null;
    let result;
    try {
      result = await work();
    } catch (error) {
      failed = error;
    }
    const news = [...report.wrong.slice(before), failed?.message ?? ""];
    const changed = news.some((each) => each.includes(NETWORK_CHANGED));
    if (attempt < ATTEMPTS && (changed || (failed && again(failed)))) {
      report.wrong.length = before;
      report.again += 1;
      continue;
    }
    if (failed) throw failed;
    return result;
  }
}

/** The page writes the colours that it gave to labels, whoever looks; who may only look is refused. */
function colours(url) {
  return /\/api\/v1\/dashboard\/\d+\/colors/.test(url);
}

function watch(page) {
  page.on("console", (message) => {
    // Superset counts its installations by a picture that it asks another host for. Ours refuses that, and a cluster may not let it.
    if (new URL(message.location().url || base).hostname.endsWith(".scarf.sh") || message.text().includes(".scarf.sh/")) return;
    if (colours(message.location().url ?? "")) return;
    if (message.type() === "error") report.wrong.push(`the console says: ${message.text()} (${message.location().url})`);
  });
  // Superset throws the refused answer itself, without a word of what it was.
  page.on("pageerror", (error) => {
    if (error.message !== "Response") report.wrong.push(`an error in the page: ${error.message}`);
  });
  page.on("response", (response) => {
    if (response.status() === 403 && colours(response.url())) return;
    if (response.status() >= 400) report.wrong.push(`${response.status()} of ${response.url()}`);
  });
}

async function login(page) {
  await page.goto(`${base}/login/`, { waitUntil: "domcontentloaded" });
  // Already, when the network changed after that.
  if (!new URL(page.url()).pathname.startsWith("/login")) return;
  await page.locator('#username, [data-test="username-input"]').first().fill(username);
  await page.locator('#password, [data-test="password-input"]').first().fill(password);
  // A page that is not reached stays where it was and says nothing on the console.
  const broken = page.waitForEvent("requestfailed", {
    predicate: (request) => request.isNavigationRequest() && request.failure()?.errorText !== "net::ERR_ABORTED",
  });
  const arrived = page.waitForURL((url) => !url.pathname.startsWith("/login"), { waitUntil: "commit" });
  // Whichever comes second is of no interest.
  for (const each of [broken, arrived]) each.catch(() => {});
  await page.locator('button[type="submit"], [data-test="login-button"]').first().click();
  const failed = await Promise.race([arrived.then(() => null), broken]);
  if (failed) throw new Error(`${failed.url()} after the login: ${failed.failure()?.errorText}`);
}

/** The titles of each tab's charts. */
async function dashboard(page, slug) {
  await page.goto(`${base}/superset/dashboard/${slug}/`, { waitUntil: "domcontentloaded" });
  await page.waitForSelector('[data-test="dashboard-content-wrapper"], .dashboard-content');
  await settle(page);
  const tabs = page.locator(".dashboard-component-tabs .ant-tabs-tab");
  const names = await tabs.allTextContents();
  const shown = {};
  for (const [index, name] of (names.length > 0 ? names : [""]).entries()) {
    if (names.length > 0) await tabs.nth(index).click();
    await settle(page);
    shown[name] = await judge(page, `${slug} ${name}`.trim());
    const file = [slug, name.toLowerCase(), username].filter((part) => part !== "").join("-");
    const height = await page.evaluate(() => {
      const cards = [...document.querySelectorAll('[data-test="dashboard-component-chart-holder"]')];
      return Math.ceil(Math.max(0, ...cards.map((card) => card.getBoundingClientRect().bottom))) + 24;
    });
    await page.screenshot({
      path: join(artefacts, `${file}.png`),
      clip: { x: 0, y: 0, width: WIDTH, height: Math.min(height, 3200) },
      animations: "disabled",
    });
  }
  return shown;
}

/** Waits until no chart of the tab loads. */
async function settle(page) {
  await page.waitForFunction((holder) => {
    const cards = [...document.querySelectorAll(holder)].filter((card) => card.offsetParent !== null);
    const drawn = (card) =>
      card.querySelector(".slice_container canvas, .slice_container table, .slice_container .header-line, .ant-empty, .ant-alert, [role=alert]") !==
        null && card.querySelector('.loading, [data-test="loading-indicator"]') === null;
    return cards.length > 0 && cards.every(drawn);
  }, '[data-test="dashboard-component-chart-holder"]');
  // Lines are drawn in the frames after their data has come.
  await page.waitForTimeout(2_000);
}

/** What is wrong with the cards that are to be seen; gives their titles. */
async function judge(page, where) {
  const cards = await page.evaluate(() =>
    [...document.querySelectorAll('[data-test="dashboard-component-chart-holder"]')]
      .filter((card) => card.offsetParent !== null)
      .map((card) => {
        const title = card.querySelector('[data-test="editable-title-input"], .header-title, [data-test="slice-header"] a');
        const alert = card.querySelector('.ant-alert, [role="alert"], [data-test="error-message"]');
        return {
          title: (title?.value ?? title?.textContent ?? "").trim(),
          cut: title !== null && title.scrollWidth > title.clientWidth + 1,
          alert: alert?.textContent ?? null,
          empty: card.querySelector(".ant-empty") !== null || card.textContent.includes("No results were returned"),
        };
      }),
  );
  for (const card of cards) {
    const name = `${where}, ${card.title || "a chart without title"}`;
    if (card.alert !== null) report.wrong.push(`${name}: ${card.alert}`);
    if (card.empty && !mayBeEmpty.includes(card.title)) report.wrong.push(`${name}: no results`);
    if (card.cut) report.wrong.push(`${name}: the title is cut`);
  }
  return cards.map((card) => card.title);
}
