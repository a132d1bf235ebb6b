// Actions through the page, as people take them: one who may only look at feeds is refused, with what would help, and may wait for a
// checkpoint; one who may change them suspends a feed until it is drained, resumes it and restarts its producer.
//
// DASHBOARD_URL        a dashboard that runs, with actions
// DASHBOARD_FEED       the feed, which is not suspended
// DASHBOARD_VIEWER     a token of somebody who may look at feeds
// DASHBOARD_EDITOR     a token of somebody who may change them
// DASHBOARD_ARTEFACTS  where pictures go
// CHROMIUM             the browser, /usr/bin/chromium

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Browser, Checks, judge, openPage } from "./browser-page.mjs";

const base = required("DASHBOARD_URL").replace(/\/$/, "");
const feed = required("DASHBOARD_FEED");
const artefacts = join(required("DASHBOARD_ARTEFACTS"), "actions");

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run cargo xtask test`);
  return value;
}

await mkdir(artefacts, { recursive: true });
const browser = new Browser(process.env.CHROMIUM ?? "/usr/bin/chromium");
const checks = new Checks(browser);
try {
  await checks.of("one who may only look is refused", () => withPage(viewer, refusal));
  await checks.of("one who may change feeds changes this one", () => withPage(editor));
} finally {
  await browser.close();
}
for (const failure of checks.failures) console.error(`FAILED: ${failure.name}: ${failure.error}`);
process.exit(checks.failures.length > 0 ? 1 : 0);

/** The refusal, which is shown, and its status: as an answer, and as the browser says it on the console. */
function refusal(wrong) {
  return /may not patch|^403 of |status of 403/.test(wrong);
}

async function viewer(page, opened) {
  const refused = await act(page, "Suspend", required("DASHBOARD_VIEWER"));
  if (!/may not patch/.test(refused) || !/role/.test(refused)) throw new Error(`a viewer is told ${refused}`);
  // With the pointer where it is: on the button.
  await judge(opened, { expected: refusal });
  await page.screenshot({ path: join(artefacts, "refused.png") });
  await page.getByRole("button", { name: "Use another token" }).click();
  await page.getByLabel("Your token of Kubernetes").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  const looked = await act(page, "Checkpoint", required("DASHBOARD_VIEWER"));
  if (!/hold nothing that is not committed/.test(looked)) throw new Error(`a checkpoint says ${looked}`);
}

async function editor(page) {
  const token = required("DASHBOARD_EDITOR");
  // Where an attempt before was broken off.
  if (await page.getByRole("button", { name: "Resume…" }).count()) await act(page, "Resume", token);
  await act(page, "Suspend", token);
  await page.waitForSelector('h1 [data-state="Suspended"]');
  await page.screenshot({ path: join(artefacts, "suspended.png") });
  await act(page, "Resume");
  await page.waitForSelector('h1 [data-state="Ready"]');
  await act(page, "Restart", null, async () => {
    await page.getByRole("checkbox", { name: "processor" }).uncheck();
    await page.screenshot({ path: join(artefacts, "restart.png") });
  });
  await page.getByRole("button", { name: /Forget the token of/ }).click();
}

/** Does something on the feed's page, and judges the page. */
async function withPage(work, expected) {
  const opened = await openPage(browser, `${base}/feeds/${feed}`, { ready: ".actions button" });
  try {
    await work(opened.page, opened);
    await judge(opened, { expected });
  } catch (error) {
    throw new Error(`${error.message}\n${opened.wrong.join("\n")}`);
  } finally {
    await opened.close();
  }
}

/** Takes an action, and returns what the page answers. The dialog of one that was done is closed. */
async function act(page, name, token, choose = () => {}) {
  await page.getByRole("button", { name: `${name}…` }).click();
  const field = page.getByLabel("Your token of Kubernetes");
  if (token && (await field.count())) await field.fill(token);
  await choose();
  await page.getByRole("button", { name, exact: true }).click();
  const notice = page.locator("dialog .notice.ok, dialog .notice.error");
  await notice.waitFor();
  const text = (await notice.textContent()).trim();
  const done = await page.locator("dialog .notice.ok").count();
  console.log(`${done ? "done   " : "refused"} ${name}: ${text}`);
  if (done) await page.getByRole("button", { name: "Close" }).click();
  return text;
}
