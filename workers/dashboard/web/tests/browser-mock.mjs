// What only a mock can be made to do: fall silent, refuse, be in trouble.

import { join } from "node:path";
import { judge, openPage } from "./browser-page.mjs";
import { TOKEN } from "./mock.mjs";

export async function withMock(checks, { browser, mock, base, artefacts }) {
  const { world } = mock;

  for (const [name, expected] of [
    ["energy", "SourceReady"],
    ["banks", "ProcessorReady"],
  ]) {
    for (const width of [1280, 400]) {
      await checks.of(`trouble of ${name} is on top at ${width}`, async () => {
        const opened = await openPage(browser, `${base}/feeds/markets/${name}`, {
          width,
          colorScheme: "dark",
          ready: ".graph-panel svg.graph",
        });
        try {
          await opened.page.screenshot({
            path: join(artefacts, `trouble-${name}-${width}.png`),
            animations: "disabled",
          });
          const headline = await opened.page.locator(".verdict .headline").boundingBox();
          const text = await opened.page.textContent(".verdict .headline");
          if (!text.includes(expected) || headline.y > 300) throw new Error(`at ${headline.y}: ${text}`);
          await judge(opened);
        } finally {
          await opened.close();
        }
      });
    }
  }

  await checks.of("the overview begins with what needs attention", async () => {
    const opened = await openPage(browser, base, { ready: "tr[data-feed]" });
    const first = await opened.page.locator("tr[data-feed]").first().getAttribute("data-feed");
    await opened.close();
    if (first !== "markets/energy") throw new Error(`it begins with ${first}`);
  });

  await checks.of("trouble of one part leaves the others", async () => {
    const opened = await openPage(browser, `${base}/feeds/markets/crypto/quarantine`, { ready: ".notice.error" });
    try {
      const shown = await opened.page.locator(".verdict .headline").textContent();
      if (!shown) throw new Error("the page is blank");
      await judge(opened, { expected: (text) => text.includes("503") || text.includes("database") });
    } finally {
      await opened.close();
    }
  });

  await checks.of("raw entries are text", async () => {
    const opened = await openPage(browser, `${base}/feeds/markets/tech/quarantine`, { ready: ".quarantine details" });
    try {
      for (const summary of await opened.page.locator(".quarantine summary").all()) await summary.click();
      const raw = await opened.page.locator(".quarantine pre").allTextContents();
      if (!raw.some((text) => text.includes("<script>"))) throw new Error(`there is ${raw.join()}`);
      await judge(opened);
    } finally {
      await opened.close();
    }
  });

  await checks.of("without a stream it asks", async () => {
    world.stream = false;
    const opened = await openPage(browser, `${base}/?q=markets/tech&sort=name`, {
      ready: 'tr[data-feed="markets/tech"]',
    });
    try {
      await opened.page.waitForSelector(".freshness.polling");
      const before = await lag(opened.page);
      await opened.page.waitForFunction(
        (old) => document.querySelector('tr[data-feed="markets/tech"] [data-field=lag]').dataset.value !== old,
        before,
      );
      await judge(opened, { expected: (text) => text.includes("429") });
    } finally {
      world.stream = true;
      await opened.close();
    }
  });

  await checks.of("a server that is gone is said, what was known stays, and it goes on by itself", async () => {
    const opened = await openPage(browser, base, { ready: "tr[data-feed]" });
    const { page } = opened;
    try {
      await page.waitForSelector(".freshness.stream");
      world.down = true;
      for (const socket of world.streams) socket.destroy();
      await page.waitForSelector(".freshness.lost");
      await page.screenshot({ path: join(artefacts, "lost.png") });
      if ((await page.locator("tr[data-feed]").count()) === 0) throw new Error("the list is gone");
      world.down = false;
      await page.waitForSelector(".freshness.stream");
    } finally {
      world.down = false;
      await opened.close();
    }
  });

  await checks.of("a tab that nobody looks at holds no connection", async () => {
    const opened = await openPage(browser, base, { ready: "tr[data-feed]" });
    const { page } = opened;
    const look = (hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    try {
      await page.waitForSelector(".freshness.stream");
      await look(true);
      await until(() => world.streams.size === 0, "the stream is open still");
      await look(false);
      await until(() => world.streams.size === 1, "there is no stream again");
      await judge(opened);
    } finally {
      await opened.close();
    }
  });

  await checks.of("a wrong token is refused and asked for again", async () => {
    const opened = await openPage(browser, `${base}/feeds/markets/tech`, { ready: ".actions button" });
    const { page } = opened;
    try {
      await page.getByRole("button", { name: "Suspend…" }).click();
      await page.screenshot({ path: join(artefacts, "confirm.png") });
      await page.getByLabel("Your token of Kubernetes").fill("wrong");
      await page.getByRole("button", { name: "Suspend", exact: true }).click();
      await page.waitForSelector("dialog .notice.error");
      await page.getByLabel("Your token of Kubernetes").fill(TOKEN);
      await page.getByRole("button", { name: "Suspend", exact: true }).click();
      await page.waitForSelector("dialog .notice.ok");
      await judge(opened, { expected: (text) => text.includes("401") });
    } finally {
      await opened.close();
    }
  });

  await checks.of("actions that are off are not shown", async () => {
    world.actions = false;
    const opened = await openPage(browser, `${base}/feeds/markets/tech`, { ready: "[data-field=lag]" });
    const buttons = await opened.page.locator(".actions").count();
    world.actions = true;
    await opened.close();
    if (buttons > 0) throw new Error("there are buttons");
  });
}

async function until(holds, otherwise) {
  for (let round = 0; round < 100; round += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(otherwise);
}

const lag = (page) => page.locator('tr[data-feed="markets/tech"] [data-field=lag]').getAttribute("data-value");
