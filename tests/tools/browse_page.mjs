// Goes through the page of tools.browse in headless Chromium, for tests/tools/test_browse.py:
//
//   node browse_page.mjs PUPPETEER CHROMIUM URL WHAT
//
// Prints JSON: what was seen at each step, and what was asked of other hosts or refused by the page's policy.
import { pathToFileURL } from "node:url";

const [puppeteerPath, executablePath, url, what] = process.argv.slice(2);
const { default: puppeteer } = await import(pathToFileURL(puppeteerPath));
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const seen = {}, strange = [];
try {
  const page = await browser.newPage();
  page.on("request", (request) => {
    const address = new URL(request.url());
    if (address.protocol.startsWith("http") && address.host !== new URL(url).host) strange.push(request.url());
  });
  page.on("pageerror", (error) => strange.push(String(error)));
  page.on("dialog", (dialog) => (strange.push(dialog.message()), dialog.dismiss()));
  await page.evaluateOnNewDocument(() => {
    window.blocked = [];
    addEventListener("securitypolicyviolation", (event) => window.blocked.push(event.blockedURI));
  });
  const text = (id) => page.$eval(`#${id}`, (element) => element.textContent);
  const number = () => page.$$eval("#list button", (found) => found.length);
  const status = (part) => page.waitForFunction((p) => document.getElementById("status").textContent.includes(p), {}, part);
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const drawn = () => page.waitForFunction(() => document.getElementById("facts").children.length && document.getElementById("status").textContent === "");
  // The first pixel of the canvas, once it is not what it was.
  const pixel = () => page.$eval("#picture", (canvas) => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data].slice(0, 64));
  const pixelsChanged = (before) =>
    page.waitForFunction(
      (old) => {
        const canvas = document.getElementById("picture");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return JSON.stringify([...data].slice(0, 64)) !== old;
      },
      {},
      JSON.stringify(before),
    );
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll("#list button").length > 0);
  seen.title = await text("title");
  seen.all = await number();
  await page.select("#split", "=test");
  seen.test = await number();
  await page.select("#answer", "wrong");
  seen.wrong = await number();
  await page.select("#answer", "");
  await page.select("#split", "");
  seen.orders = await page.$$eval("#order option", (options) => options.map((option) => option.value));
  if (what === "one file") {
    await (await page.$("#list button")).click();
    await page.waitForFunction(() => document.getElementById("still").naturalWidth > 0);
    seen.facts = await text("facts");
    seen.correct = await page.$eval("#correct", (form) => !form.hidden);
  } else if (what === "correct") {
    seen.labels = await page.$$eval("#label option", (options) => options.map((option) => option.textContent));
    await page.select("#order", "wrong");
    seen.captions = await page.$$eval("#list button", (found) => found.map((button) => button.innerText.trim()));
    await (await page.$("#list button")).click();
    await drawn();
    seen.chances = await text("chances");
    seen.facts = await text("facts");
    for (const id of ["new-label", "new-number"]) seen[id] = await page.$eval(`#${id}`, (input) => !input.parentElement.hidden);
    seen.several = await page.$eval("#several", (told) => !told.hidden);
    for (const given of seen["new-number"] ? ["9,5", "9.5"] : []) {
      await page.$eval("#new-number", (input) => (input.value = ""));
      await page.type("#new-number", given);
      await press("Tab");
      await status(given === "9.5" ? "rows in it: 1" : "is no number");
    }
  } else {
    // By keys alone from here on: to the first case, into it, through its slices.
    await page.type("#text", what);
    seen.found = await number();
    while (!(await page.evaluate(() => document.activeElement.closest("#list")))) await press("Tab");
    await press("Enter");
    await drawn();
    seen.name = await text("name");
    seen.depth = await text("depth-shown");
    const before = await pixel();
    await press("ArrowUp");
    await pixelsChanged(before);
    seen.above = await text("depth-shown");
    const slice = await pixel();
    seen.pixels = slice;
    await page.$eval("#high", (input) => ((input.value = "5000"), input.dispatchEvent(new Event("input"))));
    await pixelsChanged(slice);
    await press("e");
    await page.waitForFunction(() => !document.getElementById("looked").hidden && document.getElementById("heat").naturalWidth > 0);
    seen.heat = await text("heat-caption");
    await press("2");
    await status("rows in it: 1");
    await press("x");
    await page.waitForFunction(() => document.querySelector("#excluded").checked);
    await status("rows in it: 1");
    await page.type("#note", "blurred, \"twice\"");
    await press("Tab");
    await page.waitForFunction(() => document.getElementById("marks-list").textContent.includes("blurred"));
    seen.marks = await text("marks-list");
    await press("Escape");
    await page.$eval("#text", (input) => ((input.value = ""), input.dispatchEvent(new Event("input"))));
    await page.select("#marked", "yes");
    seen.marked = await number();
    await page.select("#marked", "");
    for (const order of ["unlike", "training", "alike", "lead"]) {
      await page.select("#order", order);
      await page.waitForFunction(() => document.getElementById("status").textContent === "");
      seen[order] = await number();
    }
    await page.select("#answer", "none"); // the training cases have an answer now, too
    seen.unanswered = await number();
  }
  strange.push(...(await page.evaluate(() => window.blocked)));
  console.log(JSON.stringify({ ...seen, strange }));
} finally {
  await browser.close();
}
