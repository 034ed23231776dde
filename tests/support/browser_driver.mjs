// A browser that obeys: one JSON command a line on stdin, one JSON answer a line on stdout (tests/support/browser.py).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [PRESSES, PRESS_MS] = [4, 10_000]; // on a button that is drawn on the canvas, until it answers
const [packages, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${packages}/`)("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--force-color-profile=srgb"] });
let page;
let messages = [];

const commands = {
  // A fresh profile: nothing that an earlier page stored is left.
  // blocked: addresses (globs) of scripts that are empty for this page.
  async open({ url, width, height, blocked }) {
    await page?.context().close();
    const context = await browser.newContext({ viewport: { width, height }, acceptDownloads: true, permissions: ["clipboard-read", "clipboard-write"] });
    for (const address of blocked) await context.route(address, (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
    page = await context.newPage();
    messages = [];
    page.on("console", (m) => messages.push({ type: m.type(), text: m.text(), url: m.location().url ?? "" }));
    page.on("pageerror", (e) => messages.push({ type: "pageerror", text: String(e.stack ?? e), url: "" }));
    await page.goto(url);
  },
  reload: () => page.reload(),
  evaluate: ({ code, argument }) => page.evaluate(`(async (argument) => { ${code} })(${JSON.stringify(argument ?? null)})`),
  wait: ({ code, timeout }) => page.waitForFunction(`(() => { ${code} })()`, null, { timeout, polling: 100 }).then(() => true),
  click: ({ selector, options }) => page.locator(selector).first().click(options),
  hover: ({ selector }) => page.locator(selector).first().hover(),
  fill: ({ selector, text }) => page.locator(selector).first().fill(text),
  press: ({ key }) => page.keyboard.press(key),
  type: ({ text }) => page.keyboard.type(text),
  mouse: async ({ steps }) => {
    for (const [action, ...values] of steps) await page.mouse[action](...values);
  },
  drag: ({ source, target, options }) => page.locator(source).first().dragTo(page.locator(target).first(), options),
  files: ({ selector, paths }) => page.locator(selector).first().setInputFiles(paths),
  // What a click asks for or hands out: a file from the disk, a file to the disk (base64).
  async choose({ x, y, paths }) {
    // The classic canvas takes a press that a busy machine stretches for a drag, and nothing opens: then people press again.
    for (let left = PRESSES; ; left -= 1) {
      try {
        const event = page.waitForEvent("filechooser", { timeout: PRESS_MS });
        const [chooser] = await Promise.all([event, page.mouse.click(x, y)]);
        return await chooser.setFiles(paths);
      } catch (error) {
        if (left === 1 || error.name !== "TimeoutError") throw error;
      }
    }
  },
  async download({ selector }) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator(selector).first().click()]);
    return { name: download.suggestedFilename(), data: readFileSync(await download.path()).toString("base64") };
  },
  text: ({ selector }) => page.locator(selector).first().innerText(),
  count: ({ selector }) => page.locator(selector).count(),
  async screenshot({ path, selector }) {
    const target = selector ? page.locator(selector).first() : page;
    await target.screenshot({ path });
  },
  messages: () => messages,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...values } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command](values)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
