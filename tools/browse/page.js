// The page of tools.browse: served with the cases of one data set, or with them inside (one_file.py).
"use strict";

const PAGE = 60; // cases at once
const ALIKE = 0.95; // from this correlation on, two small pictures are called alike
const get = (id) => document.getElementById(id);
const percent = (p) => (p === null || p === undefined ? "" : `${(100 * p).toFixed(p > 0.1 && p < 0.999 ? 0 : 2)} %`);
const inside = get("embedded") ? JSON.parse(get("embedded").textContent) : null;

let all; // cases.json: a list for each property
let marks = []; // of corrections.csv
let markOf = new Map(); // by case
let shown = []; // places of the cases that the filters let through, in order
let page = 0;
let open = null; // the place in `shown` of the case that is open
let about = null; // what the server says of it
let slices = new Map(); // of the open case, by depth
let unlike = null, alike = null, training = null; // asked for once

// --- The server ---------------------------------------------------------------------------------------------------

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}
const askJson = async (path, options) => (await ask(path, options)).json();
const smallOf = (id) => (inside ? inside.small[id] : `small/${id}`);

function say(text) {
  get("status").textContent = text;
}

async function attempt(doing, work) {
  if (doing) say(doing);
  try {
    const said = await work();
    say(said ?? "");
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer: has tools.browse ended?" : error.message);
  }
}

// --- The list -----------------------------------------------------------------------------------------------------

function fill(select, options, kept) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (kept !== undefined && options.some(([value]) => value === kept)) select.value = kept;
}

const counted = (values) => {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
};
// The value of an option says which filter it is; "" is none. So that a class may have any name, it stands behind "=".
// A case may have several values, as labels.
const choices = (values) => [["", "all"], ...counted(values.flat()).map(([v, n]) => [`=${v}`, `${v === "" ? "(none)" : v} (${n})`])];
const passes = (select, value) => select.value === "" || [value].flat().some((one) => select.value === `=${one}`);

const isRight = (told, i) => told?.right[i] ?? null;
const isNumber = () => all.kind === "regression" || all.kind === "log_regression";
const isOneClass = () => all.kind === "classes" || all.kind === "ordinal";
const withUnit = (value) => `${Number(value.toPrecision(4))}${all.unit && ` ${all.unit}`}`;

const CHANGES = {
  lost: ["right there, wrong here", (now, before) => before === true && now === false],
  won: ["wrong there, right here", (now, before) => before === false && now === true],
};

const ORDERS = {
  "": ["by name", () => 0],
  wrong: ["most wrong first", (i) => -(all.now?.error[i] ?? -1)],
  training: ["most wrong first, training cases too", (i) => -(all.now?.error[i] ?? -1)],
  value: ["smallest number first", (i) => all.value[i]],
  lead: ["least certain first", (i) => all.now?.lead[i] ?? 2],
  unlike: ["unlike the training data first", (i) => -(unlike?.of[all.case[i]] ?? -1e9)],
  alike: ["most alike pairs first", (i) => -(alike?.[i][1] ?? -2)],
};

function setUp() {
  document.title = `Cases of ${all.dataset}`;
  get("title").textContent = `${all.dataset}: ${all.case.length} cases`;
  fill(get("split"), choices(all.split));
  fill(get("label"), choices(all.parts));
  const [right, wrong] = isNumber() ? ["within the interval", "outside of the interval"] : ["right", "wrong"];
  const answers = [["", "all"], ["right", right], ["wrong", wrong], ["none", "none (training split)"]];
  fill(get("answer"), all.now ? answers : answers.slice(0, 1));
  fill(get("predicted"), choices((all.now?.parts ?? []).filter((parts) => parts !== null)));
  get("changes").hidden = !all.before;
  get("revision").textContent = all.revisions[1] ?? "";
  fill(get("change"), [["", "all"], ...Object.entries(CHANGES).map(([key, [text]]) => [key, text])]);
  fill(get("marked"), [["", "all"], ["yes", "marked"], ["no", "not marked"]]);
  fill(get("column"), [["", "none"], ...Object.keys(all.facts).map((name) => [`=${name}`, name]), ...(all.copy_of.some(Boolean) ? [["copies", "equal pixels"]] : [])]);
  fill(get("value"), [["", "all"]]);
  const known = Object.entries(ORDERS).filter(([key]) => (key !== "value" || isNumber()) && (key !== "lead" || !isNumber()));
  const orders = known.filter(([key]) => (all.now || key === "value" ? !inside || !["training", "unlike", "alike"].includes(key) : key === "" || (key === "alike" && !inside)));
  fill(get("order"), orders.map(([key, [text]]) => [key, text]), "wrong");
  // Labels are mended in labels.csv itself: a row of corrections.csv has one class, or one number.
  get("new-label").parentElement.hidden = !isOneClass();
  get("new-number").parentElement.hidden = !isNumber();
  get("new-number").nextSibling.textContent = all.unit && ` ${all.unit}`;
  get("several").hidden = isNumber() || isOneClass();
  fill(get("new-label"), [["", "as it is"], ...all.classes.map((name, k) => [`=${name}`, k < 9 ? `${k + 1}: ${name}` : name])]);
  fill(get("explain"), [["", "nothing"], ...all.classes.map((name) => [`=${name}`, name])]);
  get("explain-label").hidden = !all.now || Boolean(inside);
  get("frozen").hidden = !all.frozen;
  get("frozen").textContent = all.frozen;
  for (const control of get("correct").elements) control.disabled = Boolean(all.frozen);
  if (inside) for (const id of ["controls", "correct", "marks"]) get(id).hidden = true;
}

function columnChanged() {
  const name = get("column").value;
  if (name === "copies") fill(get("value"), [["", "all"], ["yes", "has a copy"], ["no", "has none"]]);
  else fill(get("value"), name ? choices(all.facts[name.slice(1)]) : [["", "all"]]);
}

function filter() {
  const text = get("text").value.trim().toLowerCase();
  const column = get("column").value, value = get("value");
  const copied = new Set(column === "copies" ? [...all.copy_of.filter(Boolean), ...all.case.filter((_, i) => all.copy_of[i])] : []);
  const change = CHANGES[get("change").value]?.[1];
  shown = all.case.map((_, i) => i).filter((i) => {
    const right = isRight(all.now, i);
    return (
      passes(get("split"), all.split[i]) &&
      passes(get("label"), all.parts[i]) &&
      (get("answer").value === "" || { right: right === true, wrong: right === false, none: all.now?.predicted[i] == null }[get("answer").value]) &&
      (get("predicted").value === "" || (all.now?.parts[i] && passes(get("predicted"), all.now.parts[i]))) &&
      (!change || change(right, isRight(all.before, i))) &&
      (get("marked").value === "" || (get("marked").value === "yes") === markOf.has(all.case[i])) &&
      (value.value === "" || (column === "copies" ? (value.value === "yes") === copied.has(all.case[i]) : passes(value, all.facts[column.slice(1)][i]))) &&
      (text === "" || all.case[i].startsWith(text) || all.path[i].toLowerCase().includes(text))
    );
  });
  const rank = ORDERS[get("order").value][1];
  const key = new Map(shown.map((i) => [i, rank(i)]));
  shown.sort((a, b) => key.get(a) - key.get(b) || a - b);
  page = 0;
  list();
}

async function orderChanged() {
  const order = get("order").value;
  if (order === "unlike" && !unlike) await attempt("Asking the network about each case…", async () => void (unlike = await askJson("unlike")));
  if (order === "training" && !training)
    await attempt("Asking the network about the cases that it was trained on…", async () => {
      const place = new Map(all.case.map((id, i) => [id, i]));
      training = await askJson("training");
      for (const [at, id] of training.case.entries())
        for (const [name, column] of Object.entries(all.now)) column[place.get(id)] = training[name][at];
    });
  if (order === "alike" && !alike) await attempt("Comparing the cases…", async () => void (alike = await askJson("alike")));
  filter();
}

function caption(i) {
  const right = isRight(all.now, i);
  const lines = [all.label[i]];
  const said = all.now?.predicted[i];
  if (isOneClass()) {
    if (right === true) lines.push(`✓ ${percent(all.now.p[i])}`);
    if (right === false) lines.push(`✗ as ${said}: ${percent(all.now.p[i])}`);
  } else if (said != null) lines.push(`${{ true: "✓ ", false: "✗ " }[right] ?? ""}as ${said}`);
  const mark = markOf.get(all.case[i]);
  if (mark) lines.push(mark.excluded ? "→ left out" : mark.label ? `→ ${mark.label}` : "→ noted");
  return [lines.join("\n"), right, mark];
}

function list() {
  const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
  page = Math.min(Math.max(page, 0), last);
  const from = page * PAGE, some = shown.slice(from, from + PAGE);
  get("count").textContent = shown.length ? `${from + 1} to ${from + some.length} of ${shown.length}` : "none";
  get("earlier").disabled = page === 0;
  get("later").disabled = page === last;
  get("list").replaceChildren(
    ...some.map((i, at) => {
      const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
      const [text, right, mark] = caption(i);
      button.type = "button";
      button.classList.toggle("wrong", right === false);
      button.classList.toggle("marked", Boolean(mark));
      image.loading = "lazy";
      image.src = smallOf(all.case[i]);
      image.alt = "";
      button.append(image, ...text.split("\n").flatMap((line) => [line, document.createElement("br")]));
      button.addEventListener("click", () => show(from + at));
      item.append(button);
      return item;
    }),
  );
}

// --- One case -----------------------------------------------------------------------------------------------------

async function show(place) {
  if (place < 0 || place >= shown.length) return;
  open = place;
  const i = shown[place], id = all.case[i];
  get("one").hidden = false;
  document.querySelector("main").hidden = true;
  get("name").textContent = `${all.path[i] || id} (${place + 1} of ${shown.length})`;
  get("looked").hidden = true;
  slices = new Map();
  about = null;
  showMark(i);
  showTwin(i);
  await attempt("", async () => {
    const found = inside ? inside.about[id] : await askJson(`case/${id}`);
    if (open !== place) return; // somebody went on meanwhile
    about = found;
    showChances(i);
    showFacts(i);
    if (inside) {
      get("picture").hidden = true;
      get("still").hidden = false;
      get("still").src = smallOf(id);
      return;
    }
    const deep = about.shape.length === 4;
    get("depth-label").hidden = !deep;
    get("depth").max = deep ? about.shape[1] - 1 : 0;
    get("depth").value = deep ? Math.floor(about.shape[1] / 2) : 0;
    const channels = about.shape[0];
    get("channel-label").hidden = channels === 1 || channels === 3;
    fill(get("channel"), Array.from({ length: channels }, (_, c) => [String(c), String(c + 1)]), get("channel").value);
    get("low").value = about.low;
    get("high").value = about.high;
    await draw();
    if (get("explain").value) await explain();
  });
  get("close").focus();
}

function hide() {
  get("one").hidden = true;
  document.querySelector("main").hidden = false;
  const place = open;
  open = null;
  page = Math.floor(place / PAGE);
  list();
  get("list").children[place % PAGE]?.querySelector("button").focus();
}

const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float16: Float32Array, float32: Float32Array };

async function draw() {
  const place = open, depth = Number(get("depth").value), id = all.case[shown[place]];
  get("depth-shown").textContent = `${depth + 1} of ${Number(get("depth").max) + 1}`;
  if (!slices.has(depth)) {
    const bytes = await (await ask(`slice/${id}/${depth}`)).arrayBuffer();
    if (open !== place) return;
    slices.set(depth, new TYPES[about.dtype](bytes));
    if (depth !== Number(get("depth").value)) return; // a later slice is drawn instead
  }
  const pixels = slices.get(depth), [channels] = about.shape, [height, width] = about.shape.slice(-2), size = height * width;
  const low = Number(get("low").value), scale = 255 / Math.max(Number(get("high").value) - low, 1e-12);
  const first = channels === 3 ? [0, 1, 2] : Array(3).fill(Number(get("channel").value) || 0);
  const canvas = get("picture"), image = new ImageData(width, height);
  for (let at = 0; at < size; at++) {
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = (pixels[first[c] * size + at] - low) * scale;
    image.data[4 * at + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  const [y, x] = about.spacing_mm ? about.spacing_mm.slice(-2) : [1, 1], smaller = Math.min(y, x);
  const times = Number(get("zoom").value) || Math.min(512 / Math.max((width * x) / smaller, (height * y) / smaller), 16);
  canvas.style.width = `${(width * times * x) / smaller}px`;
  canvas.style.height = `${(height * times * y) / smaller}px`;
}

async function explain() {
  const label = get("explain").value;
  get("looked").hidden = true; // until there is a picture
  if (!label) return;
  const place = open, id = all.case[shown[place]];
  await attempt("Asking the network…", async () => {
    const answer = await ask(`heat/${id}?class=${encodeURIComponent(label.slice(1))}`);
    const picture = await answer.blob();
    if (open !== place) return;
    URL.revokeObjectURL(get("heat").src);
    get("heat").src = URL.createObjectURL(picture);
    get("looked").hidden = false;
    const slice = answer.headers.get("X-Slice");
    get("heat-caption").textContent = `evidence for ${label.slice(1)}, in the network's own sample${slice ? `, slice ${slice}` : ""}`;
  });
}

function showTwin(i) {
  const found = alike?.[i];
  get("twin").hidden = !(get("order").value === "alike" && found && found[1] >= ALIKE);
  if (get("twin").hidden) return;
  const [other, likeness] = found;
  get("twin-picture").src = smallOf(all.case[other]);
  get("twin-name").textContent = `${all.path[other] || all.case[other]}: ${all.label[other]}, ${all.split[other] || "no split yet"}; alike ${likeness.toFixed(3)}`;
  get("twin-name").onclick = () => {
    const place = shown.indexOf(other);
    if (place >= 0) show(place);
    else say("The filters leave that case out.");
  };
}

function row(cells, kind = "td") {
  const line = document.createElement("tr");
  line.append(...cells.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
  return line;
}

function showChances(i) {
  const [head, body] = get("chances").children, told = about.probabilities;
  get("chances").hidden = !told.some(Boolean);
  const [what, answer] = isNumber() ? ["number", "answer"] : [isOneClass() ? "class" : "label", "probability"];
  head.replaceChildren(row([what, ...all.revisions.map((name, r) => (r ? `at ${name}` : answer))], "th"));
  const names = isNumber() ? Object.keys(told.find(Boolean) ?? {}) : all.classes;
  const order = names.map((name) => [name, told[0]?.[name] ?? -1]);
  if (!isNumber()) order.sort((a, b) => b[1] - a[1]);
  const text = (p) => (isNumber() ? (p === undefined ? "" : withUnit(p)) : percent(p));
  body.replaceChildren(...order.map(([name]) => row([name + isTrue(i, name), ...told.map((of) => text(of?.[name]))])));
}

// What is true of a class or label, or of the number, to stand behind its name.
function isTrue(i, name) {
  const share = about.truth[name];
  if (isNumber()) return share == null ? "" : ` (it is ${withUnit(share)})`;
  if (!isOneClass()) return share === undefined ? "" : ` (${{ 0: "no", 1: "yes" }[share] ?? "nobody knows"})`;
  if (share > 0 && share < 1) return ` (${percent(share)} of it)`;
  return name === all.label[i] ? " (its label)" : "";
}

function showFacts(i) {
  const facts = [["case", all.case[i]], ["label", all.label[i]], ["split", all.split[i] || "none yet"]];
  facts.push(["shape", `${about.shape.join(" × ")} ${about.dtype}${about.units ? ` (${about.units})` : ""}`]);
  if (about.spacing_mm) facts.push(["spacing", `${about.spacing_mm.map((mm) => Number(mm.toPrecision(4))).join(" × ")} mm`]);
  const error = all.now?.error[i];
  if (isNumber() && error != null) facts.push(["error", withUnit(error)]);
  const grades = Math.abs(all.classes.indexOf(all.now?.predicted[i]) - all.classes.indexOf(all.label[i]));
  if (all.kind === "ordinal" && error != null) facts.push(["error", `${grades} grade${grades === 1 ? "" : "s"}`]);
  if (all.copy_of[i]) facts.push(["same pixels as", all.copy_of[i]]);
  for (const [name, values] of Object.entries(all.facts)) if (values[i] !== "") facts.push([name, values[i]]);
  const distance = unlike?.of[all.case[i]];
  if (distance !== undefined) facts.push(["unlike the training data", `${distance.toFixed(2)} deviations${distance > unlike.threshold ? `, above the threshold of ${unlike.threshold.toFixed(2)}` : ""}`]);
  const some = about.paths.slice(0, 20), more = about.paths.length - some.length;
  facts.push(["files", some.join(", ") + (more > 0 ? ` and ${more} more` : "")]);
  get("facts").replaceChildren(
    ...facts.flatMap(([name, text]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: text })]),
  );
}

// --- What is wrong ------------------------------------------------------------------------------------------------

function takeMarks(found) {
  marks = found;
  markOf = new Map(marks.flatMap((mark) => mark.cases.map((id) => [id, mark])));
  get("marks-count").textContent = marks.length;
  get("marks-list").replaceChildren(
    ...marks.map((mark) => {
      const item = document.createElement("li"), button = document.createElement("button");
      const what = [mark.excluded && "left out", mark.label && `is ${mark.label}`, mark.note].filter(Boolean).join("; ");
      button.type = "button";
      button.textContent = "take back";
      button.disabled = Boolean(all.frozen);
      button.addEventListener("click", () => save({ path: mark.path, label: "", excluded: false, note: "" }));
      item.append(`${mark.path}: ${what}${mark.cases.length ? "" : " (no case of now: applied already, or not read)"} `, button);
      return item;
    }),
  );
}

function showMark(i) {
  const mark = markOf.get(all.case[i]);
  get("new-label").value = mark?.label ? `=${mark.label}` : "";
  get("new-number").value = mark?.label ?? "";
  get("excluded").checked = mark?.excluded ?? false;
  get("note").value = mark?.note ?? "";
  const shared = all.files[i] === 1 ? all.path.filter((path) => path === all.path[i]).length - 1 : 0;
  get("shared").hidden = !shared;
  get("shared").textContent = `What is marked holds for the file's other ${shared} cases, too.`;
}

async function save(given) {
  const place = open;
  await attempt("", async () => {
    takeMarks(await askJson("marks", { method: "POST", body: JSON.stringify(given) }));
    return `Written to corrections.csv; rows in it: ${marks.length}. The next dvc repro applies it; then load this page again.`;
  });
  if (place === null) list();
  else if (open === place) showMark(shown[place]);
}

function mark(change) {
  if (open === null || all.frozen || inside) return;
  const i = shown[open];
  const label = isNumber() ? get("new-number").value.trim() : isOneClass() ? get("new-label").value.slice(1) : (markOf.get(all.case[i])?.label ?? "");
  const given = { label, excluded: get("excluded").checked, note: get("note").value };
  return save({ path: markOf.get(all.case[i])?.path ?? all.path[i], ...given, ...change });
}

// --- Keys and controls --------------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (open === null || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") return hide();
  if (event.target.matches("select, input:not([type=checkbox], [type=range])")) return; // they take these keys themselves
  const step = { ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1 }[event.key];
  const slice = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step && !(event.target.id === "depth" && event.key.startsWith("Arrow"))) show(open + step);
  else if (slice && about?.shape.length === 4) {
    get("depth").value = Number(get("depth").value) + slice;
    attempt("", draw);
  } else if (event.key === "x") mark({ excluded: !get("excluded").checked });
  else if (event.key === "u") mark({ label: "", excluded: false, note: "" });
  else if (event.key === "e" && !get("explain-label").hidden) {
    get("explain").value = get("explain").value ? "" : `=${isOneClass() ? all.now.predicted[shown[open]] ?? all.label[shown[open]] : all.classes[0]}`;
    explain();
  } else if (isOneClass() && /^[1-9]$/.test(event.key) && event.key <= all.classes.length) mark({ label: all.classes[event.key - 1], excluded: false });
  else return;
  event.preventDefault();
});

const FILTERS = ["split", "label", "answer", "predicted", "change", "marked", "value"];
for (const id of FILTERS) get(id).addEventListener("change", filter);
get("text").addEventListener("input", filter);
get("column").addEventListener("change", () => (columnChanged(), filter()));
get("order").addEventListener("change", orderChanged);
get("earlier").addEventListener("click", () => (page--, list()));
get("later").addEventListener("click", () => (page++, list()));
get("close").addEventListener("click", hide);
get("before").addEventListener("click", () => show(open - 1));
get("after").addEventListener("click", () => show(open + 1));
for (const id of ["depth", "low", "high", "zoom", "channel"]) get(id).addEventListener("input", () => attempt("", draw));
get("explain").addEventListener("change", explain);
// The wheel goes through the slices; dragging sets the window, as viewers of scans do: its width across, its level down.
get("picture").addEventListener("wheel", (event) => {
  if (about?.shape.length !== 4) return;
  event.preventDefault();
  get("depth").value = Number(get("depth").value) + Math.sign(event.deltaY);
  attempt("", draw);
});
get("picture").addEventListener("pointerdown", (event) => event.target.setPointerCapture(event.pointerId));
get("picture").addEventListener("pointermove", (event) => {
  if (!about || !(event.buttons & 1)) return;
  const low = Number(get("low").value), high = Number(get("high").value), width = Math.max(high - low, 1e-6);
  const level = (low + high) / 2 + (width * event.movementY) / 300, wide = width * (1 + event.movementX / 300);
  get("low").value = Number((level - wide / 2).toPrecision(5));
  get("high").value = Number((level + wide / 2).toPrecision(5));
  attempt("", draw);
});
for (const id of ["new-label", "new-number", "excluded", "note"]) get(id).addEventListener("change", () => mark({}));
get("undo").addEventListener("click", () => mark({ label: "", excluded: false, note: "" }));
for (const id of ["filters", "correct"]) get(id).addEventListener("submit", (event) => event.preventDefault());

attempt("", async () => {
  all = inside ? inside.cases : await askJson("cases.json");
  setUp();
  takeMarks(all.marks);
  filter();
});
