// ------------------------------------------------------------------ marks
// A mark is of one image, one method's mask as it was then (or the image itself: method null) and one rater.
// What was said of the mask before a correction stays beside what is said of the corrected one.
const MARK_GLYPH = { pass: "✓", fail: "✕", artefact: "⚠" };
const MARKS = new Map();               // image -> its marks, of all raters and masks
let preferences = [];                  // answers of blind comparisons, of all raters
let rater = load("rater") || "";
const undone = [];                     // what the last keys replaced, for U

const imageOf = (e) => (e.study ? e.image_id : e.id);
const marksOf = (e) => MARKS.get(imageOf(e)) || [];
const isEmptyMark = (m) => !m.mark && m.rating === null && !m.reason && !m.slices.length;
const resultOf = (e, method) => e.methods.find((m) => m.name === method);
const isSameMask = (a, b) => (a && b ? a.startsWith(b) || b.startsWith(a) : a === b);
const isSameMark = (a, b) => a.method === b.method && a.rater === b.rater && isSameMask(a.mask_sha256, b.mask_sha256);
function isShown(e, mark) {            // whether it speaks of what the page shows; without a checksum it is of the method's own mask
  const result = resultOf(e, mark.method);
  if (mark.method === null || !result) return mark.method === null;
  return mark.mask_sha256 ? !result.sha || isSameMask(mark.mask_sha256, result.sha) : !result.corrected;
}
const shownMarks = (e) => marksOf(e).filter((m) => isShown(e, m));
function dropMark(mark) { MARKS.set(mark.image, (MARKS.get(mark.image) || []).filter((m) => !isSameMark(m, mark))); }
function putMark(mark) {               // in the place of the same rater's earlier one of the same mask
  dropMark(mark);
  if (!isEmptyMark(mark)) MARKS.get(mark.image).push(mark);
}
const ofRater = (marks, method) => marks.filter((m) => m.method === method && m.rater === rater).reduce((a, b) => (a && a.time > b.time ? a : b), null);
function ownMark(e, method) {
  return ofRater(shownMarks(e), method) || { image: imageOf(e), method, mark: "", rating: null, rater, time: "", reason: "", slices: [], mask_sha256: resultOf(e, method)?.sha || "" };
}
function targetsOf(e) { const names = methodsOf(e); return names.length > 1 ? [...names, ALL] : names; }
function targetOf(e) { const targets = targetsOf(e); return targets.includes(state.target) ? state.target : targets[0] || null; }
const markedMethods = (e) => (targetOf(e) === ALL ? methodsOf(e) : [targetOf(e)]);
function isReviewed(e) { return marksOf(e).some((m) => m.rater === rater && m.mark === "artefact") || markedMethods(e).every((method) => ownMark(e, method).mark); }
const earlierMark = (e, method) => ofRater(marksOf(e).filter((m) => !isShown(e, m)), method);
function isMark(m) {                   // as this page writes them
  return Boolean(m) && [m.image, m.rater, m.mark, m.time, m.reason].every((value) => typeof value === "string") && (m.method === null || typeof m.method === "string")
    && (m.rating === null || typeof m.rating === "number") && Array.isArray(m.slices) && typeof (m.mask_sha256 ?? "") === "string";
}
function addMark(given) {              // of a file: the later of two by the same rater of the same mask stays
  const mark = { ...given, mask_sha256: given.mask_sha256 || "" };
  if ((MARKS.get(mark.image) || []).some((m) => isSameMark(m, mark) && m.time > mark.time)) return 0;
  putMark(mark);
  return 1;
}
function saveMarks() { store("marks", [...MARKS.values()].flat()); store("preferences", preferences); }

function change(e, methods, changes) { // every change of marks comes this way, so every one can be undone
  const before = methods.map((method) => ownMark(e, method));
  const time = new Date().toISOString().replace(/[.]\d+/, "");
  const made = before.map((mark) => ({ ...mark, ...changes(mark), time, mask_sha256: resultOf(e, mark.method)?.sha || "" }));
  before.forEach(dropMark);
  made.forEach(putMark);
  undone.push({ entry: e, marks: before, made });
  saveMarks(); drawMarks(); drawRows(); drawCounts();
}
function undo() {
  const last = undone.pop();
  if (!last) { say("nothing to undo"); return; }
  last.made.forEach(dropMark);
  last.marks.forEach(putMark);
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
    const on = given.length > 0 && given.every((m) => m.mark === kind), stale = !on && given.some((m) => !m.mark && earlierMark(e, m.method)?.mark === kind);
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("stale", stale);
    button.title = stale ? `${kind} was said of an earlier mask; look again` : `${kind} (${kind[0].toUpperCase()})`;
  }
  const words = (m) => [m.method || "image", m.mark && `${MARK_GLYPH[m.mark]} ${m.mark}`, m.rating !== null && `rated ${m.rating}`,
    m.slices.length && `slices ${m.slices.join(", ")}`, m.reason && `“${m.reason}”`, !isShown(e, m) && resultOf(e, m.method) && "of an earlier mask", m.rater !== rater && `by ${m.rater}`].filter(Boolean).join(" · ");
  $("given").replaceChildren(...marksOf(e).map((m) => make("li", { class: `mark-${m.mark || "note"}` }, words(m))));
}

// ------------------------------------------------------------------ files of marks
function yaml(text) { return /^[A-Za-z0-9_./-]+$/.test(text) && !text.startsWith("-") ? text : JSON.stringify(text); }
function listed(kind) {                // as the field's tools for manual correction and exclusion read it
  const lines = data.entries.flatMap((e) => {
    const marks = shownMarks(e).filter((m) => m.mark === kind);
    const who = [...new Set(marks.map((m) => m.method).filter(Boolean))].join(", ");
    return marks.length ? [`- ${yaml(e.file)}${who ? `  # ${who}` : ""}\n`] : [];
  });
  return `FILES_SEG:${lines.length ? `\n${[...new Set(lines)].sort().join("")}` : " []\n"}`;
}
function marksFile() {
  const marks = [...MARKS.values()].flat().sort((a, b) => (`${a.image} ${a.method} ${a.rater} ${a.time}` < `${b.image} ${b.method} ${b.rater} ${b.time}` ? -1 : 1));
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

for (const mark of load("marks") || []) addMark(mark);
preferences = load("preferences") || [];
