// Drives a real Chromium, one step per line: a test writes {"step": ..., ...} and reads {"value": ...} or {"error": ...}.
//
// The first line of stdin says how to start; the answer is {"value": {"browser": "<version>"}}:
//
//   profile            an empty folder for the profile of the browser
//   width, height      of the view, in CSS pixels
//   colorScheme        "light" (the default) or "dark"
//   ignoreHTTPSErrors  true: certificates are not checked
//
// The steps are the functions of `steps` below. A role is an ARIA role, a name the accessible name as a screen reader
// says it, both matched exactly: what has no name cannot be used. Elements are waited for. It ends when stdin closes.
//
// The program is that of the variable CHROMIUM, else /usr/bin/chromium.

import { chromium } from "playwright-core";

import { answer, log, values } from "./lines.mjs";

/** For one step, in milliseconds. The test has a longer one, so that it gets to read the error. */
const STEP = 20_000;
/** The first three because tests run as root and without a screen; the others because nothing may call home. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** The roles of what a user can operate. */
const CONTROLS = new Set(
  `button checkbox combobox link listbox menuitem menuitemcheckbox menuitemradio radio searchbox slider spinbutton switch
  tab textbox treeitem`.split(/\s+/),
);

/** What went wrong in the pages since the last look: [{kind: "violation" | "exception" | "network" | "console", text}]. */
let problems = [];

async function launch({ profile, width = 1280, height = 800, colorScheme = "light", ignoreHTTPSErrors = false }) {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: FLAGS,
    headless: true,
    viewport: { width, height },
    colorScheme,
    ignoreHTTPSErrors,
    acceptDownloads: true,
  });
  context.setDefaultTimeout(STEP);
  // The event names the directive and what it stopped; the message on the console is for people.
  await context.exposeFunction("e2eViolation", (text) => problems.push({ kind: "violation", text }));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      const where = event.sourceFile ? ` at ${event.sourceFile}:${event.lineNumber}` : "";
      globalThis.e2eViolation(`${event.effectiveDirective} stops ${event.blockedURI}${where}`);
    });
  });
  context.on("console", (message) => {
    const text = message.text();
    log(`console ${message.type()}: ${text}`);
    if (message.type() !== "error") return;
    // What Chromium says itself about an answer of 400 and more, or about none at all.
    const kind = text.startsWith("Failed to load resource") ? "network" : "console";
    problems.push({ kind, text: `${text} (${message.location().url})` });
  });
  context.on("weberror", (error) => problems.push({ kind: "exception", text: String(error.error()) }));
  return { context, page: context.pages()[0] ?? (await context.newPage()) };
}

const exactly = (page, { role, name }) => page.getByRole(role, { name, exact: true });

const steps = {
  /** Opens `url`; the status of the answer. */
  goto: async ({ page }, { url }) => ({ status: (await page.goto(url))?.status() ?? null }),
  reload: async ({ page }) => void (await page.reload()),
  /** Clicks the element of `role` and `name`. */
  click: ({ page }, step) => exactly(page, step).click(),
  /** Puts `text` into the field with `label`. */
  fill: ({ page }, { label, text }) => page.getByLabel(label, { exact: true }).fill(text),
  /** Chooses `option` in the list with `label`. */
  select: async ({ page }, { label, option }) => void (await page.getByLabel(label, { exact: true }).selectOption(option)),
  /** The value of the field with `label`. */
  value: ({ page }, { label }) => page.getByLabel(label, { exact: true }).inputValue(),
  /** Presses a key: `Tab`, `Enter`, `Shift+Tab`. */
  press: ({ page }, { key }) => page.keyboard.press(key),
  /** Waits until `text` is to be seen, whatever is around it. */
  waitForText: ({ page }, { text }) => page.getByText(text).first().waitFor(),
  /** Waits until the element of `role` and `name` is to be seen. */
  waitForRole: ({ page }, step) => exactly(page, step).first().waitFor(),
  /** Waits until the address starts with `prefix`; the address. */
  waitForUrl: async ({ page }, { prefix }) => {
    await page.waitForURL((url) => url.href.startsWith(prefix), { waitUntil: "commit" });
    return page.url();
  },
  url: async ({ page }) => page.url(),
  title: ({ page }) => page.title(),
  /** The text to be seen on the page. */
  text: ({ page }) => page.locator("body").innerText(),
  /** All cookies with their attributes; `expires` in seconds since 1970, or -1 for the end of the session. */
  cookies: ({ context }) => context.cookies(),
  clearCookies: ({ context }) => context.clearCookies(),
  resize: ({ page }, { width, height }) => page.setViewportSize({ width, height }),
  /** How wide the page is and how wide its view: what is wider has to be scrolled sideways. */
  size: ({ page }) =>
    page.evaluate(() => {
      const { clientWidth, clientHeight, scrollWidth, scrollHeight } = document.documentElement;
      return { clientWidth, clientHeight, scrollWidth, scrollHeight };
    }),
  /** Writes the whole page as PNG to `path`. */
  screenshot: async ({ page }, { path }) => void (await page.screenshot({ path, fullPage: true })),
  /** Clicks the element of `role` and `name`, and writes what is saved by that to `path`; the file name it was given. */
  download: async ({ page }, { path, ...step }) => {
    const [download] = await Promise.all([page.waitForEvent("download"), exactly(page, step).click()]);
    await download.saveAs(path);
    return download.suggestedFilename();
  },
  /** What can be operated, with role and accessible name as Chromium computes them, in the order of the page. */
  controls: async ({ context, page }) => {
    const session = await context.newCDPSession(page);
    try {
      const { nodes } = await session.send("Accessibility.getFullAXTree");
      const byId = new Map(nodes.map((node) => [node.nodeId, node]));
      // Chromium lists them level by level.
      const inOrder = (node) => [node, ...(node.childIds ?? []).flatMap((id) => (byId.has(id) ? inOrder(byId.get(id)) : []))];
      const said = (node, name) => node.properties?.find((property) => property.name === name)?.value.value;
      return inOrder(nodes[0])
        .filter((node) => !node.ignored && CONTROLS.has(node.role?.value))
        .map((node) => ({
          role: node.role.value,
          name: node.name?.value ?? "",
          description: node.description?.value ?? "",
          disabled: said(node, "disabled") === true,
        }));
    } finally {
      await session.detach();
    }
  },
  /** The page as assistive technology gets it, as YAML. */
  ariaSnapshot: ({ page }) => page.locator("body").ariaSnapshot(),
  /** What has the keyboard focus, and the outline that shows it; null if nothing has. */
  focus: ({ page }) =>
    page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const style = getComputedStyle(element);
      const text = element.getAttribute("aria-label") ?? element.labels?.[0]?.innerText ?? element.innerText ?? "";
      return {
        tag: element.localName,
        id: element.id,
        name: text.trim(),
        outline: style.outlineStyle === "none" ? 0 : Number.parseFloat(style.outlineWidth),
      };
    }),
  /** Problems since the last time this was asked. */
  problems: async () => {
    const seen = problems;
    problems = [];
    return seen;
  },
};

async function run(browser, { step, ...rest }) {
  if (!Object.hasOwn(steps, step)) throw new Error(`there is no step ${step}`);
  return steps[step](browser, rest);
}

const input = values();
const first = await input.next();
if (first.done) throw new Error("the first line of stdin must say how to start");
const browser = await launch(first.value);
answer({ value: { browser: browser.context.browser()?.version() ?? "" } });
for await (const step of input) {
  try {
    answer({ value: (await run(browser, step)) ?? null });
  } catch (error) {
    answer({ error: `${JSON.stringify(step)} at ${browser.page.url()}: ${error.message}` });
  }
}
await browser.context.close();
process.exit(0);
