// A page in the browser, and what is wrong with it.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** A machine that builds something else beside is slow. */
const PATIENCE_MILLISECONDS = 60_000;

/**
 * Chromium gives up every request when the machine gets or loses an address, which it does with each pod of a cluster that runs
 * on it. That says nothing of a page.
 */
export const NETWORK_CHANGED = "ERR_NETWORK_CHANGED";
/** How often a page is opened in all, while the network changes. */
export const ATTEMPTS = 5;

/** Chromium. One that died is started again. */
export class Browser {
  #browser = null;

  constructor(executablePath) {
    this.executablePath = executablePath;
  }

  get died() {
    return this.#browser !== null && !this.#browser.isConnected();
  }

  async newContext(options) {
    if (!this.#browser?.isConnected()) {
      this.#browser = await chromium.launch({
        executablePath: this.executablePath,
        // In a container, and for root, Chromium's own sandbox cannot be made.
        args: ["--no-sandbox", "--disable-dev-shm-usage"],
      });
    }
    return this.#browser.newContext(options);
  }

  close() {
    return this.#browser?.close();
  }
}

/** Runs checks one after the other; one that fails does not end the others. */
export class Checks {
  results = [];

  constructor(browser) {
    this.browser = browser;
  }

  get failures() {
    return this.results.filter((result) => result.error !== null);
  }

  async of(name, work) {
    if (!name.includes(process.env.DASHBOARD_ONLY ?? "")) return;
    let error = null;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      error = null;
      try {
        await work();
      } catch (failed) {
        error = failed.message.split("\n").slice(0, 12).join("\n");
      }
      // A browser that somebody ended says nothing of the page; one that a page ends will end again.
      const ended = this.browser.died && attempt === 1;
      if (error === null || !(ended || error.includes(NETWORK_CHANGED))) break;
      console.log(`again  ${name}: ${ended ? "the browser ended" : "the network changed"}`);
    }
    this.results.push({ name, error });
    console.log(`${error === null ? "ok    " : "FAILED"} ${name}${error === null ? "" : `\n${error}`}`);
  }
}

/** Opens an address and waits until what it is for is there. What goes wrong from then on is noted. */
export async function openPage(browser, url, { width = 1280, colorScheme = "light", ready }) {
  const context = await browser.newContext({
    viewport: { width, height: width > 800 ? 900 : 860 },
    colorScheme,
    reducedMotion: "reduce",
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MILLISECONDS);
  const wrong = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") wrong.push(`the console says: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`an error in the page: ${error.message}`));
  page.on("response", (response) => {
    if (response.status() >= 400) wrong.push(`${response.status()} of ${response.url()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin) && !request.url().startsWith("data:"))
      wrong.push(`a request to elsewhere: ${request.url()}`);
  });
  page.on("requestfailed", (request) => {
    // What the page gave up itself, because something else is looked at by now.
    if (request.failure()?.errorText !== "net::ERR_ABORTED")
      wrong.push(`${request.url()} failed: ${request.failure()?.errorText}`);
  });
  const opened = { page, wrong, close: () => context.close() };
  try {
    await page.goto(url, { waitUntil: "domcontentloaded" });
    await page.waitForSelector(ready, { state: "attached" });
    await page.waitForFunction(() => document.querySelector(".loading") === null);
    // Charts are drawn in the frames after their data has come.
    await page.waitForTimeout(300);
  } catch (error) {
    await context.close();
    throw new Error(`${error.message}\n${wrong.join("\n")}`);
  }
  return opened;
}

/** Throws when anything is wrong with a page; `expected` says what is allowed to be. */
export async function judge({ page, wrong }, { expected = () => false } = {}) {
  const found = wrong.filter((each) => !expected(each));
  const wide = await page.evaluate(() => ({ content: document.documentElement.scrollWidth, window: innerWidth }));
  if (wide.content > wide.window) found.push(`it is ${wide.content} pixels wide, the window is ${wide.window}`);
  const alerts = await page.locator('[role="alert"]').allTextContents();
  found.push(...alerts.filter((text) => !expected(text)).map((text) => `an alert is shown: ${text}`));
  await page.evaluate(AXE);
  const violations = await page.evaluate(
    async () => (await window.axe.run(document, { resultTypes: ["violations"] })).violations,
  );
  for (const { impact, id, help, nodes } of violations) {
    if (impact === "serious" || impact === "critical") {
      found.push(
        `axe-core, ${impact}: ${id}, ${help}: ${nodes
          .slice(0, 3)
          .map((node) => node.html.slice(0, 160))
          .join(" | ")}`,
      );
    }
  }
  if (found.length > 0) throw new Error(found.join("\n"));
}
