// ------------------------------------------------------------------ levels: discs clicked on the sagittal strip
// A disc has its value in SCT's numbers (3: C2/C3), its voxel (canonical axes) and its place in the scanner, mm.
const PMJ = 50;                        // the pontomedullary junction
const VALUES = [PMJ, ...Array.from({ length: 29 }, (_, n) => n + 1)];
const IN_FRONT_MM = 12;                // place in front of the cord's middle at which a disc set by a key is drawn
const NEAR_PX = 5;                     // distance within which a press grabs a disc
const DISCS = new Map();               // image -> its discs, all confirmed by a person
const clicking = { on: false, value: 3, last: 3, held: null };

const REGIONS = [["C", 1, 7], ["T", 8, 12], ["L", 20, 5], ["S", 25, 5]];
function levelName(value) {
  const [letter, first] = REGIONS.find(([, start, count]) => value >= start && value < start + count);
  return `${letter}${value - first + 1}`;
}
const discName = (value) => (value === PMJ ? "PMJ" : value === 1 ? "top of C1" : `${levelName(value - 1)}/${levelName(value)}`);
const discsOf = (e) => DISCS.get(imageOf(e)) || [];

function middleOf(k) { return detailNow().tiles.centres[detailNow().tiles.centres.length - 1 - k]; }
function arcs() {                      // way along the cord to each slice, mm, from below
  const [x, y, z] = detailNow().tiles.zooms, arc = [0];
  for (let k = 1; k < detailNow().tiles.centres.length; k++) {
    const [a, b] = [middleOf(k - 1), middleOf(k)];
    arc.push(arc[k - 1] + Math.hypot((b[0] - a[0]) * x, (b[1] - a[1]) * y, z));
  }
  return arc;
}
function placed(value, k, j) {         // a disc at a slice; the plane of the strip gives the way from side to side
  const voxel = [detailNow().sagittal.across[k], j, k];
  const mm = detailNow().affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  return { value, voxel: voxel.map((v) => Math.round(v * 100) / 100), mm: mm.map((v) => Math.round(v * 1000) / 1000), state: "confirmed" };
}
function inFront(k) { return middleOf(k)[1] + IN_FRONT_MM / detailNow().tiles.zooms[1]; }

function proposals(e) {                // as spineseg.levels.spacing.propose_discs
  const below = data.spacing, arc = arcs(), known = new Map();
  for (const disc of discsOf(e)) if (below[disc.value] !== undefined) known.set(disc.value, -arc[Math.round(disc.voxel[2])]);
  const marked = [...known.keys()].sort((a, b) => a - b);
  if (!marked.length) return [];
  const first = marked[0], last = marked[marked.length - 1], span = below[last] - below[first];
  const scale = span ? (known.get(last) - known.get(first)) / span : 1;
  const found = [];
  for (const value of Object.keys(below).map(Number)) {
    if (known.has(value)) continue;
    const nearest = marked.reduce((a, b) => (Math.abs(b - value) < Math.abs(a - value) ? b : a));
    const at = -(known.get(nearest) + scale * (below[value] - below[nearest]));
    if (at < arc[0] || at > arc[arc.length - 1]) continue;
    const k = arc.reduce((best, one, n) => (Math.abs(one - at) < Math.abs(arc[best] - at) ? n : best), 0);
    found.push({ ...placed(value, k, inFront(k)), state: "proposed" });
  }
  return found;
}

async function setDiscs(discs, words) { // every change goes through here
  const e = state.entry;
  takeDiscs();
  DISCS.set(imageOf(e), discs.sort((a, b) => b.voxel[2] - a.voxel[2]));
  store("levels", levelsOf());
  drawDiscs(); say(words);
}
function putDisc(value, k, j) {
  if (k < 0 || k >= detailNow().tiles.centres.length) return;
  clicking.last = value;
  setDiscs([...discsOf(state.entry).filter((d) => d.value !== value), placed(value, k, j)], `${discName(value)} in slice ${k}`);
}
function takenDisc() {                 // the chosen disc or, after a click, the one just set, because the next is then chosen
  const found = [clicking.value, clicking.last].map((value) => discsOf(state.entry).find((d) => d.value === value)).find(Boolean);
  if (!found) say(`${discName(clicking.value)} is not marked`);
  else clicking.value = found.value;
  return found;
}
function removeDisc() {
  const disc = takenDisc();
  if (disc) setDiscs(discsOf(state.entry).filter((d) => d !== disc), `${discName(disc.value)} removed`);
}
function confirmProposals() {
  const proposed = proposals(state.entry);
  setDiscs([...discsOf(state.entry), ...proposed.map((d) => ({ ...d, state: "confirmed" }))], `${proposed.length} discs confirmed`);
}
function moveDisc(step) {
  const disc = takenDisc();
  if (disc) putDisc(disc.value, Math.round(disc.voxel[2]) + step, disc.voxel[1]);
}
function chooseDisc(step) {
  const at = VALUES.indexOf(clicking.value);
  clicking.value = VALUES[clamp(at + step, 0, VALUES.length - 1)];
  drawDiscs(); say(`next: ${discName(clicking.value)}`);
}
function nextFree() {                  // after a new disc, the one below it
  const taken = new Set(discsOf(state.entry).map((d) => d.value));
  if (clicking.value !== PMJ && clicking.value < 29 && !taken.has(clicking.value + 1)) clicking.value += 1;
}

const stripX = (j) => (detailNow().sagittal.first + detailNow().sagittal.columns - j - 0.5) * stripPx();
const stripY = (k) => axis.top + (axis.high - k + 0.5) * axis.rowPx;
const stripPx = () => axis.rowPx / detailNow().sagittal.zooms[1] * detailNow().sagittal.zooms[0];
function underPointer(event) {         // slice and voxel from back to front at a place of the strip
  const box = $("side").querySelector("svg").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  return { k: Math.floor(axis.high + 1 - (y - axis.top) / axis.rowPx), j: detailNow().sagittal.first + detailNow().sagittal.columns - x / stripPx() - 0.5,
    y, inside: x >= 0 && x <= detailNow().sagittal.columns * stripPx() };
}
function drawDiscs() {                 // over the strip, whenever that is drawn
  const svg = $("side").querySelector("svg");
  $("levels-bar").hidden = !clicking.on;
  $("levels-open").setAttribute("aria-pressed", String(clicking.on));
  if (!svg || !axis || !state.entry || !detailNow()) return;
  const old = svg.querySelector("#discs");
  if (old) old.remove();
  const own = discsOf(state.entry);
  if (!clicking.on && !own.length) return;
  const layer = make("svg:g", { id: "discs" }), right = detailNow().sagittal.columns * stripPx();
  for (const disc of [...own, ...(clicking.on ? proposals(state.entry) : [])]) {
    const k = disc.voxel[2], y = stripY(k), sure = disc.state === "confirmed", chosen = clicking.on && disc.value === clicking.value && sure;
    if (k < axis.low || k > axis.high) continue;
    const color = sure ? "#ffd166" : "#9aa7b5";
    const mark = make("svg:g", { "data-disc": disc.value, "data-state": disc.state });
    mark.append(
      make("svg:line", { x1: 0, x2: right, y1: y, y2: y, stroke: color, "stroke-width": chosen ? 2 : 1, "stroke-dasharray": sure ? null : "3 4" }),
      make("svg:circle", { cx: stripX(disc.voxel[1]), cy: y, r: chosen ? 5 : 3.5, fill: sure ? color : "none", stroke: color }),
      make("svg:text", { x: 3, y: y - 3, style: `fill:${color}` }, sure ? discName(disc.value) : `${discName(disc.value)}?`));
    layer.append(mark);
  }
  const discs = own.filter((d) => d.value !== PMJ).sort((a, b) => a.value - b.value);
  discs.slice(1).forEach((disc, n) => {
    const upper = discs[n], name = upper.value + 1 === disc.value ? levelName(upper.value) : `${levelName(upper.value)}-${levelName(disc.value - 1)}`;
    layer.append(make("svg:text", { x: right - 3, y: (stripY(upper.voxel[2]) + stripY(disc.voxel[2])) / 2 + 4, "text-anchor": "end", class: "strong", "data-level": name }, name));
  });
  svg.append(layer);
  $("levels-next").textContent = `next: ${discName(clicking.value)}`;
  const order = [...own.filter((d) => d.value === PMJ), ...discs], wrong = order.findIndex((disc, n) => n && disc.voxel[2] >= order[n - 1].voxel[2]);
  $("levels-wrong").textContent = wrong > 0 ? `${discName(order[wrong].value)} lies above ${discName(order[wrong - 1].value)}` : "";
}
function toggleClicking() {
  if (detailNow() && !detailNow().affine) { tell("This image was drawn by an earlier version; draw the page again to click levels."); return; }
  clicking.on = !clicking.on;
  drawDiscs();
  drawStage();                         // the bar of buttons takes height
  say(clicking.on ? "click discs on the sagittal plane" : "levels closed");
}

// ------------------------------------------------------------------ mouse and keys
function takeHold(event) {
  if (!clicking.on || !detailNow() || !axis || event.button) return;
  const at = underPointer(event);
  event.stopPropagation();
  if (!at.inside || at.k < axis.low || at.k > axis.high) return;
  event.preventDefault();
  const near = discsOf(state.entry).filter((d) => Math.abs(stripY(d.voxel[2]) - at.y) <= NEAR_PX);
  if (near.length) {
    clicking.value = near.reduce((a, b) => (Math.abs(stripY(b.voxel[2]) - at.y) < Math.abs(stripY(a.voxel[2]) - at.y) ? b : a)).value;
    clicking.held = clicking.value;
    drawDiscs();
  } else {
    putDisc(clicking.value, at.k, at.j);
    nextFree(); drawDiscs();
  }
}
function drag(event) {
  if (clicking.held === null) return;
  const at = underPointer(event);
  if (at.k >= axis.low && at.k <= axis.high) putDisc(clicking.held, at.k, at.j);
}
const CLICK_KEYS = {
  "[": () => chooseDisc(-1), "]": () => chooseDisc(1), y: confirmProposals, Delete: removeDisc, Backspace: removeDisc,
  g: () => { if (state.k !== null) { putDisc(clicking.value, state.k, inFront(state.k)); nextFree(); drawDiscs(); } },
};
function onClickKey(event) {
  if (!clicking.on || !detailNow() || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input[type=search], select, input[type=range]")) return;
  const move = event.shiftKey && { ArrowUp: 1, ArrowDown: -1 }[event.key];
  const act = move ? () => moveDisc(move) : CLICK_KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  act();
  event.preventDefault(); event.stopImmediatePropagation();
}

// ------------------------------------------------------------------ file of levels
function levelsOf() {
  return data.entries.filter((e) => discsOf(e).length)
    .map((e) => ({ image: imageOf(e), file: e.file, image_sha256: e.image_sha256 || "", discs: discsOf(e) }));
}
function levelsFile() { return JSON.stringify({ report: data.report, dataset: data.title, rater, levels: levelsOf() }, null, 1); }
const areNumbers = (values) => Array.isArray(values) && values.length === 3 && values.every(Number.isFinite);
const isLevels = (one) => Boolean(one) && typeof one.image === "string" && Array.isArray(one.discs)
  && one.discs.every((d) => Boolean(d) && VALUES.includes(d.value) && areNumbers(d.voxel) && areNumbers(d.mm));
// Images are identified by content; files without it are assumed to be of this page or its dataset.
function takeLevels(content, where) {
  if (!Array.isArray(content?.levels)) throw new Error("it holds no levels");
  if (!content.levels.every(isLevels)) throw new Error("a row of it is damaged");
  const others = [];
  for (const one of content.levels) {
    const e = data.entries.find((entry) => imageOf(entry) === one.image);
    const known = one.image_sha256 && e && e.image_sha256;
    if (e && (known ? e.image_sha256 === one.image_sha256 : content.report === data.report || content.dataset === data.title)) DISCS.set(one.image, one.discs.filter((d) => d.state === "confirmed"));
    else others.push(one.image);
  }
  if (others.length) tell(`${where}: left out, for the page holds no such image, or another of this name, or it was changed since: ${others.join(", ")}`);
  return content.levels.length - others.length;
}
async function loadLevels() {
  const [file] = $("levels-load").files;
  if (!file) return;
  try {
    const count = takeLevels(JSON.parse(await file.text()), file.name);
    store("levels", levelsOf());
    drawDiscs(); say(`levels of ${count} images loaded`);
  } catch (error) { tell(`${file.name} cannot be used: ${error.message}`); }
  $("levels-load").value = "";
}
function connectLevels() {
  document.addEventListener("keydown", onClickKey, true);
  $("side").addEventListener("pointerdown", takeHold);
  $("side").addEventListener("click", (event) => { if (clicking.on) event.stopImmediatePropagation(); }, true);
  window.addEventListener("pointermove", drag);
  window.addEventListener("pointerup", () => { clicking.held = null; });
  press("levels-open", toggleClicking);
  press("levels-confirm", confirmProposals);
  press("levels-remove", removeDisc);
  press("levels-up", () => chooseDisc(-1));
  press("levels-down", () => chooseDisc(1));
  press("levels-save", () => download("levels.json", levelsFile()));
  $("levels-load").addEventListener("change", loadLevels);
  $("levels-load-label").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("levels-load").click(); } });
}
function takeDiscs() {                 // those that this browser stores, also from another window
  if (!isNews("levels")) return;
  DISCS.clear();
  takeLevels({ report: data.report, levels: Array.isArray(load("levels")) ? load("levels").filter(isLevels) : [] }, "Discs clicked before");
}
takeDiscs();
