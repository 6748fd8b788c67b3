// Clicks through the page in headless Chromium, for tests/export/test_web.py:
//
//   node click.mjs CHROMIUM URL MODEL FILE...
//
// Prints JSON: for each file, the page's message, the answers and the size of the picture that it shows. The first
// file is chosen once before the model (`early`); then the first half of the files is chosen in the file dialog, the rest
// is dropped on the page.
import fs from "node:fs";
import path from "node:path";
import puppeteer from "puppeteer-core";

const [executablePath, url, model, ...files] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  const foreignRequests = [];
  page.on("request", (request) => {
    const address = new URL(request.url());
    if (address.protocol.startsWith("http") && address.host !== new URL(url).host) foreignRequests.push(request.url());
  });
  page.on("dialog", (dialog) => (foreignRequests.push(dialog.message()), dialog.dismiss()));
  await page.evaluateOnNewDocument(() => {
    window.blocked = []; // by the page's policy
    addEventListener("securitypolicyviolation", (event) => window.blocked.push(event.blockedURI));
  });
  await page.goto(url);
  const readMessage = () => page.$eval("#message", (element) => element.textContent);
  const messageChanged = async (before) =>
    page.waitForFunction((text) => document.getElementById("message").textContent !== text, {}, before);

  const tables = () => page.$$eval("#answers table", (found) =>
    found.map((table) =>
      [...table.rows].map((row) => ({
        name: row.cells[0].textContent,
        text: row.cells[1].textContent,
        value: Number(row.dataset.value),
      }))));
  const answer = async (file) => ({
    file,
    message: await readMessage(),
    tables: await tables(),
    shown: await page.$eval("#shown", (canvas) => (canvas.hidden ? [] : [canvas.height, canvas.width])),
  });

  await (await page.$("#picture")).uploadFile(files[0]); // before the model: it waits for it
  await page.waitForFunction(() => document.getElementById("message").textContent.includes("waits for"));
  await (await page.$("#model")).uploadFile(model);
  await page.waitForFunction(() => !/waits for|: takes /.test(document.getElementById("message").textContent));
  const early = await answer(files[0]);
  await page.$eval("#picture", (input) => (input.value = "")); // else it would not notice the same file again
  const answers = [];
  for (const [i, file] of files.entries()) {
    await page.evaluate(() => (document.getElementById("message").textContent = "waiting"));
    if (i < files.length / 2) {
      await (await page.$("#picture")).uploadFile(file);
    } else {
      await page.evaluate((name, base64) => {
        const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
      }, path.basename(file), fs.readFileSync(file).toString("base64"));
    }
    await messageChanged("waiting");
    answers.push(await answer(file));
  }
  const blocked = await page.evaluate(() => window.blocked);
  console.log(JSON.stringify({ early, answers, strange: [...foreignRequests, ...blocked] }));
} finally {
  await browser.close();
}
