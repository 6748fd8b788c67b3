// The page: a model is chosen, pictures are dropped, percentages appear.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { fit } from "./geometry.js";
import { readMetadata } from "./metadata.js";

ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // several need a server that isolates the page

const ARRAYS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, int32: Int32Array, float32: Float32Array,
};
const element = (id) => document.getElementById(id);
let model = null; // { session, facts }

async function openModel(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const facts = readMetadata(bytes);
  model = { session: await ort.InferenceSession.create(bytes), facts };
  say(`${facts.dataset ?? file.name}: takes ${facts.input.axes} = N, ${facts.input.shape.join(", ")} ${facts.input.dtype}`);
}

async function classify(file) {
  if (!model) throw new Error("choose a model.onnx first");
  const { session, facts } = model;
  const numbers = file.name.endsWith(".raw") ? await readRaw(file, facts) : await readPicture(file, facts);
  const size = facts.input.shape.reduce((a, b) => a * b);
  const tensor = new ort.Tensor(facts.input.dtype, numbers, [numbers.length / size, ...facts.input.shape]);
  const started = performance.now();
  const { probabilities } = await session.run({ input: tensor });
  show(file.name, probabilities, facts.classes);
  say(`${file.name}: ${(performance.now() - started).toFixed(1)} ms`);
}

// One sample after the other, as the model takes them: `python -m tools.predict ... --raw samples.raw` writes it.
async function readRaw(file, facts) {
  const buffer = await file.arrayBuffer();
  const bytes = facts.input.shape.reduce((a, b) => a * b) * ARRAYS[facts.input.dtype].BYTES_PER_ELEMENT;
  if (buffer.byteLength === 0 || buffer.byteLength % bytes) {
    throw new Error(`${file.name} has ${buffer.byteLength} bytes, expected a multiple of ${bytes}`);
  }
  return new ARRAYS[facts.input.dtype](buffer);
}

async function readPicture(file, facts) {
  const { shape, dtype, units } = facts.input;
  if (shape.length !== 3 || dtype !== "uint8" || units) {
    const takes = `${dtype} ${shape.length === 4 ? "volumes" : "pictures"}${units ? ` in ${units}` : ""}`;
    throw new Error(`the model takes ${takes}, a browser's pictures are of 8 bits: drop a .raw file`);
  }
  // The file's own numbers: neither another colour space nor colours multiplied by alpha.
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return fit(planes(data), bitmap.height, bitmap.width, shape, facts.geometry);
}

// RGBA pixels as one plane if the picture is grey, else as three.
function planes(rgba) {
  const pixels = rgba.length / 4;
  const three = [0, 1, 2].map((c) => Float32Array.from({ length: pixels }, (_, i) => rgba[4 * i + c]));
  for (let i = 0; i < pixels; i++) {
    if (rgba[4 * i + 3] !== 255) throw new Error("the picture is in part transparent: lay it on a colour first");
  }
  const grey = three[0].every((value, i) => value === three[1][i] && value === three[2][i]);
  return grey ? [three[0]] : three;
}

function show(name, probabilities, classes) {
  const [count, each] = probabilities.dims;
  const tables = Array.from({ length: count }, (_, n) => {
    const row = Array.from(probabilities.data.slice(n * each, (n + 1) * each));
    const order = row.map((_, k) => k).sort((a, b) => row[b] - row[a]);
    const table = document.createElement("table");
    table.dataset.file = name;
    for (const k of order) {
      const line = table.insertRow();
      line.dataset.probability = row[k];
      line.insertCell().textContent = classes[k];
      const percent = line.insertCell();
      percent.className = "percent";
      percent.textContent = `${(100 * row[k]).toFixed(2)} %`;
      const bar = line.insertCell();
      bar.className = "bar";
      bar.appendChild(document.createElement("div")).style.width = `${100 * row[k]}%`;
    }
    return table;
  });
  element("answers").replaceChildren(...tables);
}

function say(text, isError = false) {
  element("message").textContent = text;
  element("message").className = isError ? "error" : "";
}

// What goes wrong is said on the page; the answers of an earlier picture do not stay under the message.
function saying(action) {
  return async (file) => {
    if (!file) return;
    try {
      await action(file);
    } catch (error) {
      element("answers").replaceChildren();
      say(error.message ?? String(error), true);
    }
  };
}

const open = saying(openModel);
const answer = saying(classify);
element("model").addEventListener("change", (event) => open(event.target.files[0]));
element("picture").addEventListener("change", (event) => answer(event.target.files[0]));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  element("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") answer(event.dataTransfer.files[0]);
  });
}
