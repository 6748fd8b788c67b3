// The page: choose a model, drop pictures, and see the percentages of its classes or labels, or its number.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { readMetadata } from "./metadata.js";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more threads need a server that sends the headers of cross-origin isolation

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
const element = (id) => document.getElementById(id);
let model = null; // { session, metadata }
let waiting = null; // a picture that was chosen before the model

async function openModel(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x7b) throw new Error(`${file.name} holds no model, as this format was left out: read it`); // {
  const metadata = readMetadata(bytes);
  model = { session: await ort.InferenceSession.create(bytes), metadata };
  const { shape, channels, dtype } = metadata.input;
  const takes = `${dtype} ${shape.length === 4 ? "volumes" : "pictures"} of ${channels.join(" or ")} channels`;
  showMessage(`${metadata.dataset ?? file.name}: takes ${takes}`);
  if (waiting) await classify(waiting);
}

async function classify(file) {
  element("shown").hidden = true;
  waiting = model ? null : file;
  if (waiting) return showMessage(`${file.name}: waits for a model.onnx`);
  const { session, metadata } = model;
  const isRaw = file.name.endsWith(".raw");
  const { input } = metadata;
  const samples = isRaw ? readRaw(await file.arrayBuffer(), input) : [await readPicture(file, input)];
  const started = performance.now();
  const rows = [];
  const answer = session.outputNames[0]; // the second, where there is one, is of unlike samples
  for (const sample of samples) rows.push(Array.from((await session.run(sample))[answer].data));
  showAnswers(file.name, rows, metadata);
  showMessage(`${file.name}: ${(performance.now() - started).toFixed(1)} ms`);
}

// One sample after the other, each of its own size: a line of text with the dtype, the sizes and, for a model that takes
// it, the spacing in mm; then the numbers. `python -m tools.predict ... --raw samples.raw` writes it.
function* readRaw(buffer, { dtype, shape, inputs }) {
  const bytes = new Uint8Array(buffer);
  const spacings = inputs.includes("spacing_mm") ? shape.length - 1 : 0;
  if (!bytes.length) throw new Error("the file is empty");
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at); // the line's
    const words = new TextDecoder().decode(bytes.subarray(at, end)).split(" ");
    const numbers = words.slice(1).map(Number);
    const [sizes, spacing] = [numbers.slice(0, shape.length), numbers.slice(shape.length)];
    const isValid = numbers.length === shape.length + spacings && numbers.every((n) => n > 0);
    if (end < 0 || words[0] !== dtype || !isValid) {
      const mm = spacings ? ` and ${spacings} spacings in mm` : "";
      throw new Error(`expected a line of ${dtype}, ${shape.length} sizes${mm} before the numbers`);
    }
    const count = sizes.reduce((a, b) => a * b);
    at = end + 1 + count * ARRAYS[dtype].BYTES_PER_ELEMENT;
    if (at > bytes.length) throw new Error("the file ends within a sample");
    yield modelInputs(new ARRAYS[dtype](buffer.slice(end + 1, at)), dtype, sizes, spacing);
  }
}

// The model's inputs, as ONNX Runtime takes them.
function modelInputs(numbers, dtype, sizes, spacing = []) {
  const input = new ort.Tensor(dtype, numbers, [1, ...sizes]);
  if (!spacing.length) return { input };
  return { input, spacing_mm: new ort.Tensor("float64", Float64Array.from(spacing), [spacing.length]) };
}

async function readPicture(file, { shape, channels, dtype, units }) {
  if (shape.length !== 3 || dtype !== "uint8" || units) {
    const takes = `${dtype} ${shape.length === 4 ? "volumes" : "pictures"}${units ? ` in ${units}` : ""}`;
    throw new Error(`the model takes ${takes}, a browser's pictures are of 8 bits: drop a .raw file`);
  }
  if (!channels.includes(1) && !channels.includes(3)) {
    throw new Error(`the model takes ${channels.join(" or ")} channels, a browser's pictures have 3: drop a .raw file`);
  }
  await refuseOtherOrientation(file);
  // The file's own numbers: neither another colour space nor colours multiplied by alpha.
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  show(bitmap);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const planes = channels.includes(3) ? rgb(data) : grey(data);
  return modelInputs(planes, dtype, [planes.length / (bitmap.height * bitmap.width), bitmap.height, bitmap.width]);
}

function show(bitmap) {
  const canvas = element("shown");
  [canvas.width, canvas.height, canvas.hidden] = [bitmap.width, bitmap.height, false];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

// Browsers turn a picture as its EXIF data say. ingest does as its XMP data say where EXIF says nothing: then both would
// give the model another picture.
async function refuseOtherOrientation(file) {
  const text = new TextDecoder("latin1").decode(await file.arrayBuffer());
  const turned = text.match(/tiff:Orientation(?:="|>)([0-9])/);
  if (turned && turned[1] !== "1" && !/Exif\0\0|eXIf|EXIF/.test(text)) {
    throw new Error("the picture is turned by its XMP data, which browsers do not read: save it upright first");
  }
}

// The canvas's interleaved RGBA pixels as three planes; those of a grey picture are equal.
function rgb(rgba) {
  const pixels = rgba.length / 4;
  const planes = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) {
    if (rgba[4 * i + 3] !== 255) throw new Error("the picture is in part transparent: lay it on a colour first");
    for (let c = 0; c < 3; c++) planes[c * pixels + i] = rgba[4 * i + c];
  }
  return planes;
}

function grey(rgba) {
  const planes = rgb(rgba);
  const pixels = planes.length / 3;
  const red = planes.subarray(0, pixels);
  if (red.some((value, i) => value !== planes[pixels + i] || value !== planes[2 * pixels + i])) {
    throw new Error("the picture is in colour, the model takes grey ones");
  }
  return red;
}

// A table a sample: percentages, the largest first, or the number and the bounds of its interval in its unit.
function showAnswers(name, rows, { classes, target, outputs }) {
  const isNumber = target?.kind === "regression" || target?.kind === "log_regression";
  const unit = isNumber && target.unit ? ` [${target.unit}]` : "";
  const tables = rows.map((row) => {
    const order = row.map((_, k) => k);
    if (!isNumber) order.sort((a, b) => row[b] - row[a]);
    const table = document.createElement("table");
    table.dataset.file = name;
    for (const k of order) {
      const line = table.insertRow();
      line.dataset.value = row[k];
      line.insertCell().textContent = (outputs ?? classes)[k] + unit;
      const value = line.insertCell();
      value.className = "value";
      value.textContent = isNumber ? Number(row[k].toPrecision(6)) : `${(100 * row[k]).toFixed(2)} %`;
      if (isNumber) continue;
      const bar = line.insertCell();
      bar.className = "bar";
      bar.appendChild(document.createElement("div")).style.width = `${100 * row[k]}%`;
    }
    return table;
  });
  element("answers").replaceChildren(...tables);
}

function showMessage(text, isError = false) {
  element("message").textContent = text;
  element("message").className = isError ? "error" : "";
}

// Shows errors on the page, and removes the answers of an earlier picture, which would stand under the message.
function showingErrors(action) {
  return async (file) => {
    if (!file) return;
    try {
      await action(file);
    } catch (error) {
      element("answers").replaceChildren();
      showMessage(error.message ?? String(error), true);
    }
  };
}

const open = showingErrors(openModel);
const answer = showingErrors(classify);
element("model").addEventListener("change", (event) => open(event.target.files[0]));
element("picture").addEventListener("change", (event) => answer(event.target.files[0]));
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  element("drop").addEventListener(type, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type === "drop") answer(event.dataTransfer.files[0]);
  });
}
