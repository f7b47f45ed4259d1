// Use the page as a person does: node browser.mjs PLAYWRIGHT AXE CHROMIUM URL [SCREENSHOTS]; one JSON object comes out.
//
// The browser reaches the page's own server and nothing else: every other request is recorded and refused.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [playwright, axe, executablePath, url, pictures] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(`${playwright}/index.mjs`));
const axeSource = await readFile(`${axe}/axe.min.js`, "utf8");
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args });
const foreign = [];
const problems = [];

async function open(address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(url).origin });
  await context.route((at) => at.host !== new URL(url).host, (route) => {
    foreign.push(route.request().url());
    return route.abort();
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(address);
  await page.waitForFunction(() => performance.getEntriesByName("plan").length, null, { timeout: 120_000 });
  return page;
}

/** Do something, wait until its answer is shown whole, and take that down. */
async function answer(page, act) {
  const before = await page.evaluate(() => performance.getEntriesByName("plan").length);
  await act();
  await page.waitForFunction((count) => performance.getEntriesByName("plan").length > count, before);
  return shown(page);
}

async function shown(page) {
  await settled(page);
  return page.evaluate(() => ({
    state: document.getElementById("state").textContent,
    verdict: document.getElementById("verdict").textContent,
    typed: document.getElementById("typed").textContent,
    json: document.getElementById("json").textContent,
    code: document.getElementById("code").textContent,
    reasons: [...document.querySelectorAll("#reasons li")].map((item) => item.textContent),
  }));
}

/** Wait until nothing is being asked. */
const settled = (page) => page.waitForSelector("#result[aria-busy=false]", { state: "attached" });

/** The serious findings of axe-core. */
async function findings(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}

const report = { axe: {}, forms: {}, pastes: {} };
const page = await open(url);
report.first = await page.evaluate(() => {
  const [entry] = performance.getEntriesByName("plan");
  return entry.startTime + entry.duration;
});

// Choose.
await page.check("input[value=linux]", { force: true });
await page.fill("#gpu", "NVIDIA H100");
await page.fill("#driver", "550.54.15");
report.picked = await answer(page, () => page.check("input[value=torchaudio]"));
for (const name of await page.locator("#tabs button").allTextContents()) {
  await page.getByRole("tab", { name, exact: true }).click();
  await settled(page);
  report.forms[name] = await page.textContent("#code");
}
await page.getByRole("tab", { name: "pip", exact: true }).click();
await settled(page);
await page.click("#form .copy");
report.copied = await page.evaluate(() => navigator.clipboard.readText());
const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
report.machine = await readFile(await download.path(), "utf8");

// Open the link that was copied in a browser that knows nothing.
await page.click("#link");
report.link = await page.evaluate(() => navigator.clipboard.readText());
const other = await open(report.link);
report.linked = await shown(other);

// A name that nobody knows, and the button that mends it.
report.unknown = await answer(page, () => page.fill("#gpu", "RTX 40900"));
report.mended = await answer(page, () => page.locator("#gpu-near button").first().click());

// How long the next answers take.
for (const python of ["3.13", "3.11", "3.14", "3.10", "3.12"]) await answer(page, () => page.selectOption("#python", python));
report.next = await page.evaluate(() => performance.getEntriesByName("plan").slice(-5).map((entry) => entry.duration));

// The keyboard alone: every stop, another system, a name, another form, another cell.
report.stops = [];
for (let name = ""; report.stops.length < 40 && name !== "summary";) {
  await other.keyboard.press("Tab");
  name = await other.evaluate(() => {
    const { id, className, name, tagName } = document.activeElement;
    return id || name || className || tagName.toLowerCase();
  });
  report.stops.push(name);
}
await other.focus("input[value=linux]");
report.arrows = await answer(other, () => other.keyboard.press("ArrowRight"));
await other.focus("#tabs [aria-selected=true]");
await other.keyboard.press("ArrowRight");
report.tab = await other.textContent("#tabs [aria-selected=true]");
await other.focus("#matrix td[tabindex='0']");
await other.keyboard.press("ArrowRight");
report.cell = await other.textContent("#cell");
report.focused = await other.evaluate(() => document.activeElement.textContent);

// Paste.
const pasted = JSON.parse(await readFile(new URL("pasted.json", import.meta.url), "utf8"));
for (const [name, text] of Object.entries(pasted)) {
  await page.fill("#text", text);
  if (name.startsWith("error")) {
    await page.click("#paste button[type=submit]");
    await settled(page);
    report.pastes[name] = { said: await page.textContent("#explained") };
  } else {
    report.pastes[name] = await answer(page, () => page.click("#paste button[type=submit]"));
    report.pastes[name].said = await page.textContent("#pasted-text");
  }
}
report.pasted_link = page.url();
await page.fill("#text", pasted.nodes);
await answer(page, () => page.click("#paste button[type=submit]"));
report.node = await answer(page, () => page.selectOption("#node", "1"));
report.by_hand = await answer(page, () => page.click("#forget"));

// What does not fit: options and shell code in fields, texts that are too much, two questions at once.
report.odd = {};
await page.check("input[value=linux]", { force: true });
await page.fill("#gpu", "RTX4090");
report.odd.option = await answer(page, () => page.fill("#others", "--index-base=http://elsewhere.example/whl"));
report.odd.url = await answer(page, () => page.fill("#others", "torch @ https://example.org/torch-2.9.0-py3-none-any.whl"));
await page.fill("#others", "");
report.odd.quoted = await answer(page, () => page.fill("#gpu", "it's $(x) <img src=x onerror=alert(1)>"));
await page.fill("#gpu", "");
const two = (...texts) => page.evaluate((given) => {
  for (const text of given) {
    document.getElementById("text").value = text;
    document.getElementById("paste").requestSubmit();
  }
}, texts);
report.odd.race = await answer(page, () => two(pasted["error text"], pasted["machine file"]));
report.odd.race.said = await page.textContent("#explained");
await two("[".repeat(200_000));
await page.waitForFunction(() => document.getElementById("state").className.includes("bad"));
report.odd.deep = await page.textContent("#state");
problems.length = 0; // Pyodide says there that it ended
report.odd.after = await answer(page, () => two(pasted["nvidia-smi"]));
report.odd.markup = await page.locator("main img, main script").count();

// Links that nobody's page made.
report.links = {};
for (const hash of ["os=toString&arch=sparc", "machine=%7Bbroken", "os=linux&gpu=H100"]) {
  await answer(other, () => other.goto(`${url}#${hash}`));
  report.links[hash] = await other.evaluate(() => {
    const { hidden, textContent } = document.getElementById("unread");
    return hidden ? "" : textContent;
  });
}

// A part that does not come, and no JavaScript at all.
report.broken = {};
for (const part of ["packages.zip", "pyodide/pyodide.asm.wasm", "worker.js", "page.js"]) {
  const context = await browser.newContext();
  await context.route(`**/${part}`, (route) => route.abort());
  const broken = await context.newPage();
  await broken.goto(url);
  await broken.waitForSelector("#state.bad");
  report.broken[part] = await broken.textContent("#state");
  await context.close();
}
const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
await plain.goto(url);
report.plain = await plain.locator("#result").innerText();

// How it looks, and what axe says of it.
const described = `${url}#os=linux&arch=x86_64&version=glibc+2.35&gpu=GeForce+RTX+5090&driver=580.95.05&python=3.12&packages=torch+torchvision`;
for (const [name, options] of Object.entries({
  light: { colorScheme: "light", viewport: { width: 1280, height: 1380 }, deviceScaleFactor: 0.7 },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 1380 }, deviceScaleFactor: 0.7 },
  narrow: { colorScheme: "light", viewport: { width: 360, height: 740 } },
})) {
  const looked = pictures ? await open(described, options) : other;
  await looked.setViewportSize(options.viewport);
  await looked.emulateMedia({ colorScheme: options.colorScheme });
  if (!pictures) await looked.goto(described);
  await settled(looked);
  report.axe[name] = await findings(looked);
  report[name] = await looked.evaluate(() => document.documentElement.scrollWidth);
  if (name === "narrow") await looked.click("#peek");
  if (pictures) await looked.screenshot({ path: `${pictures}/selector-${name}.png` });
}
await other.emulateMedia({ media: "print" });
await other.setViewportSize({ width: 720, height: 1000 });
report.printed = await other.evaluate(() => ({
  width: document.documentElement.scrollWidth,
  buttons: [...document.querySelectorAll("button")].filter((one) => one.checkVisibility()).map((one) => one.textContent),
}));
await other.emulateMedia({ media: "screen" });
report.another = await answer(other, () => other.goto(`${url}#os=linux&gpu=RTX+40900`));
report.axe.error = await findings(other);

await browser.close();
process.stdout.write(JSON.stringify({ ...report, foreign, problems }));
