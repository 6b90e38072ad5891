// ------------------------------------------------------------------ marks
// A mark is of one image, one method's mask (or the image itself: method null) and one rater.
const MARK_GLYPH = { pass: "✓", fail: "✕", artefact: "⚠" };
const MARKS = new Map();               // image -> its marks, of all raters
let preferences = [];                  // answers of blind comparisons, of all raters
let rater = load("rater") || "";
const undone = [];                     // what the last keys replaced, for U

const imageOf = (e) => (e.study ? e.image_id : e.id);
const marksOf = (e) => MARKS.get(imageOf(e)) || [];
const isEmptyMark = (m) => !m.mark && m.rating === null && !m.reason && !m.slices.length;
function putMark(mark) {               // in the place of the same rater's earlier one
  const others = (MARKS.get(mark.image) || []).filter((m) => m.method !== mark.method || m.rater !== mark.rater);
  MARKS.set(mark.image, isEmptyMark(mark) ? others : [...others, mark]);
}
function ownMark(e, method) {
  return marksOf(e).find((m) => m.method === method && m.rater === rater) || { image: imageOf(e), method, mark: "", rating: null, rater, time: "", reason: "", slices: [], mask_sha256: "" };
}
function targetsOf(e) { const names = methodsOf(e); return names.length > 1 ? [...names, ALL] : names; }
function targetOf(e) { const targets = targetsOf(e); return targets.includes(state.target) ? state.target : targets[0] || null; }
const markedMethods = (e) => (targetOf(e) === ALL ? methodsOf(e) : [targetOf(e)]);
function isReviewed(e) { return marksOf(e).some((m) => m.rater === rater && m.mark === "artefact") || markedMethods(e).every((method) => ownMark(e, method).mark); }
function isStale(e, mark) {            // made on another mask than the page shows
  const result = e.methods.find((m) => m.name === mark.method);
  return Boolean(result && mark.mask_sha256 && result.sha && mark.mask_sha256 !== result.sha);
}
function isMark(m) {                   // as this page writes them
  return Boolean(m) && [m.image, m.rater, m.mark, m.time, m.reason].every((value) => typeof value === "string") && (m.method === null || typeof m.method === "string")
    && (m.rating === null || typeof m.rating === "number") && Array.isArray(m.slices);
}
function addMark(mark) {               // of a file: the later of two by the same rater stays
  const known = (MARKS.get(mark.image) || []).find((m) => m.method === mark.method && m.rater === mark.rater);
  if (known && known.time > mark.time) return 0;
  putMark(mark);
  return 1;
}
function saveMarks() { store("marks", [...MARKS.values()].flat()); store("preferences", preferences); }

function change(e, methods, changes) { // every change of marks comes this way, so every one can be undone
  const before = methods.map((method) => ownMark(e, method));
  undone.push({ entry: e, marks: before });
  for (const mark of before) {
    const result = e.methods.find((m) => m.name === mark.method);
    putMark({ ...mark, ...changes(mark), time: new Date().toISOString().replace(/[.]\d+/, ""), mask_sha256: result ? result.sha : "" });
  }
  saveMarks(); drawMarks(); drawRows(); drawCounts();
}
function undo() {
  const last = undone.pop();
  if (!last) { say("nothing to undo"); return; }
  for (const mark of last.marks) putMark(mark);
  saveMarks(); drawRows(); drawCounts(); open(last.entry);
  say(`undone: ${title(last.entry)}`);
}
async function giveMark(mark, isKey = true) {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  const methods = mark === "artefact" ? [null] : markedMethods(e);  // an artefact is of the image, whoever segments it
  if (!methods.length || (mark !== "artefact" && methods[0] === null)) { say("there is no mask to mark"); return; }
  const off = methods.every((method) => ownMark(e, method).mark === mark);
  change(e, methods, () => ({ mark: off ? "" : mark }));
  say(off ? `${mark} removed` : `${mark}: ${mark === "artefact" ? "the image" : methods.join(", ")}`);
  if (!off && isKey) nextUnmarked();
}
async function giveRating(rating) {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  change(e, markedMethods(e), (m) => ({ rating: m.rating === rating ? null : rating }));
  say(`rating ${rating}`);
}
async function toggleSlice() {
  const e = state.entry;
  if (!e || state.k === null || !(await askRater())) return;
  change(e, markedMethods(e), (m) => ({ slices: m.slices.includes(state.k) ? m.slices.filter((k) => k !== state.k) : [...m.slices, state.k].sort((a, b) => a - b) }));
  say(`slice ${state.k} ${ownMark(e, markedMethods(e)[0]).slices.includes(state.k) ? "named" : "no longer named"}`);
}
async function giveComment() {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  const text = await ask("comment", ownMark(e, markedMethods(e)[0]).reason);
  if (text !== null) change(e, markedMethods(e), () => ({ reason: text.trim() }));
}
function nextUnmarked() {
  const at = shown.indexOf(state.entry), after = [...shown.slice(at + 1), ...shown.slice(0, Math.max(at, 0))];
  filterList();                        // "not marked yet" no longer holds the image just marked
  const next = after.find((e) => !isReviewed(e) && shown.includes(e));
  if (next) open(next);
  else say("every image of the list is marked");
}

// ------------------------------------------------------------------ questions: rater, comment
function ask(what, value) {            // the answer, or null where the reader cancels
  const box = $(`${what}-box`), field = $(what);
  field.value = value;
  box.returnValue = "";
  box.showModal();
  field.select();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue === "ok" ? field.value : null), { once: true }));
}
async function askRater(again = false) {
  if (!rater || again) {
    const name = ((await ask("rater", rater)) || "").trim();
    if (name) { rater = name; store("rater", rater); renameSeen(); filterList(); if (state.entry) drawMarks(); }
  }
  $("rater-open").textContent = rater ? `Rater: ${rater}` : "Rater …";
  return Boolean(rater);
}

function drawMarks() {
  const e = state.entry, target = targetOf(e), targets = targetsOf(e);
  $("mark-method").replaceChildren(...targets.map((name) => make("option", { value: name }, name)));
  $("mark-method").value = target;
  $("mark-method").hidden = targets.length < 2;
  const own = markedMethods(e).map((method) => ownMark(e, method)), ofImage = ownMark(e, null);
  for (const button of document.querySelectorAll("[data-mark]")) {
    const kind = button.dataset.mark, given = kind === "artefact" ? [ofImage] : own;
    const on = given.length > 0 && given.every((m) => m.mark === kind), stale = on && given.some((m) => isStale(e, m));
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("stale", stale);
    button.title = stale ? "marked on an earlier mask; look again" : `${kind} (${kind[0].toUpperCase()})`;
  }
  const words = (m) => [m.method || "image", m.mark && `${MARK_GLYPH[m.mark]} ${m.mark}`, m.rating !== null && `rated ${m.rating}`,
    m.slices.length && `slices ${m.slices.join(", ")}`, m.reason && `“${m.reason}”`, m.rater !== rater && `by ${m.rater}`].filter(Boolean).join(" · ");
  $("given").replaceChildren(...marksOf(e).map((m) => make("li", { class: `mark-${m.mark || "note"}` }, words(m))));
}

// ------------------------------------------------------------------ files of marks
function yaml(text) { return /^[A-Za-z0-9_./-]+$/.test(text) && !text.startsWith("-") ? text : JSON.stringify(text); }
function listed(kind) {                // as the field's tools for manual correction and exclusion read it
  const lines = data.entries.flatMap((e) => {
    const marks = marksOf(e).filter((m) => m.mark === kind);
    const who = [...new Set(marks.map((m) => m.method).filter(Boolean))].join(", ");
    return marks.length ? [`- ${yaml(e.file)}${who ? `  # ${who}` : ""}\n`] : [];
  });
  return `FILES_SEG:${lines.length ? `\n${[...new Set(lines)].sort().join("")}` : " []\n"}`;
}
function marksFile() {
  const marks = [...MARKS.values()].flat().sort((a, b) => (`${a.image} ${a.method} ${a.rater}` < `${b.image} ${b.method} ${b.rater}` ? -1 : 1));
  return JSON.stringify({ report: data.report, dataset: data.title, marks, preferences }, null, 1);
}
async function loadMarks() {
  const problems = [];
  let count = 0;
  for (const file of $("load").files) {
    try {
      const content = JSON.parse(await file.text());
      if (!Array.isArray(content.marks)) throw new Error("it holds no list of marks");
      if (content.report !== data.report) throw new Error("its marks are of another report");
      if (!content.marks.every(isMark)) throw new Error("a mark in it is damaged");
      for (const mark of content.marks) count += addMark(mark);
      const known = new Set(preferences.map((p) => JSON.stringify(p)));
      preferences.push(...(content.preferences || []).filter((p) => !known.has(JSON.stringify(p))));
    } catch (error) { problems.push(`${file.name} cannot be used: ${error.message}`); }
  }
  saveMarks();
  $("load").value = "";
  filterList(); if (state.entry) drawMarks();
  say(`${count} marks loaded`);
  if (problems.length) tell(problems.join("\n"));
}
function tell(text) { $("message").textContent = text; $("message-box").showModal(); }

for (const mark of load("marks") || []) putMark(mark);
preferences = load("preferences") || [];
