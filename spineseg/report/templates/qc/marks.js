// ------------------------------------------------------------------ marks
// A mark is of one image, one method's mask as it was then (or the image itself: method null) and one rater.
// Marks of the mask before a correction are kept beside marks of the corrected one.
const MARK_GLYPH = { pass: "✓", fail: "✕", artefact: "⚠" };
const MARKS = new Map();               // image -> its marks, of all raters and masks
let preferences = [];                  // answers of blind comparisons, of all raters
let rater = typeof load("rater") === "string" ? load("rater") : "";
const MAX_UNDONE = 100;
let undone = [];                       // what the last keys replaced, for U; of all raters; kept when the page is closed

const imageOf = (e) => (e.study ? e.image_id : e.id);
const marksOf = (e) => MARKS.get(imageOf(e)) || [];
const isEmptyMark = (m) => !m.mark && m.rating === null && !m.reason && !m.slices.length;
const resultOf = (e, method) => e.methods.find((m) => m.name === method);
const isSameMask = (a, b) => (a && b ? a.startsWith(b) || b.startsWith(a) : a === b);
const isSameMark = (a, b) => a.method === b.method && a.rater === b.rater && isSameMask(a.mask_sha256, b.mask_sha256);
function isShown(e, mark) {            // whether it is about the mask that the page shows; without a checksum it is about the method's own mask
  const result = resultOf(e, mark.method);
  if (mark.method === null || !result) return mark.method === null;
  return mark.mask_sha256 ? !result.sha || isSameMask(mark.mask_sha256, result.sha) : !result.corrected;
}
const shownMarks = (e) => marksOf(e).filter((m) => isShown(e, m));
function dropMark(mark) { MARKS.set(mark.image, (MARKS.get(mark.image) || []).filter((m) => !isSameMark(m, mark))); }
function putMark(mark) {               // replaces the same rater's earlier mark of the same mask
  dropMark(mark);
  if (!isEmptyMark(mark)) MARKS.get(mark.image).push(mark);
}
const moment = (m) => Date.parse(m.time) || 0;  // times may be in several zones; a mark without a time is first
const ofRater = (marks, method) => marks.filter((m) => m.method === method && m.rater === rater).reduce((a, b) => (a && moment(a) > moment(b) ? a : b), null);
function ownMark(e, method) {
  return ofRater(shownMarks(e), method) || { image: imageOf(e), method, mark: "", rating: null, rater, time: "", reason: "", slices: [], mask_sha256: resultOf(e, method)?.sha || "" };
}
function targetsOf(e) { const names = methodsOf(e); return names.length > 1 ? [ALL, ...names] : names; }
function targetOf(e) { const targets = targetsOf(e); return targets.includes(state.target) ? state.target : targets[0] || null; }
const hasMask = (m) => Boolean(m && m.mask) && (m.status === "ok" || m.status === "partial");
function masksOf(e) {                  // methods to judge; if none has a mask, a mark is about each of them
  const names = e.methods.filter(hasMask).map((m) => m.name);
  return names.length ? names : methodsOf(e);
}
function markedMethods(e) {            // a method without a mask is marked only if it was chosen on this image
  const target = targetOf(e), names = masksOf(e);
  if (target === ALL) return names;
  return target !== null && (names.includes(target) || state.chosenOn === e || methodsOf(e).length === 1) ? [target] : [];
}
const isArtefact = (e) => marksOf(e).some((m) => m.rater === rater && m.mark === "artefact");
const isMarked = (e, methods) => isArtefact(e) || methods.every((method) => ownMark(e, method).mark);
const isReviewed = (e) => isMarked(e, masksOf(e));  // a fail counts if its rater has marked every mask of the image
const isPartly = (e) => !isReviewed(e) && masksOf(e).some((method) => ownMark(e, method).mark);
const earlierMark = (e, method) => ofRater(marksOf(e).filter((m) => !isShown(e, m)), method);
// ------------------------------------------------------------------ errors of a row, in the words of the study's reader
const CHOICES = { x: "X better", y: "Y better", same: "same", "both-bad": "both bad" };
const MARK_DEFAULTS = { rating: null, rater: "unnamed rater", time: "", reason: "", slices: [], mask_sha256: "" };  // as the study's reader
const PREFERENCE_DEFAULTS = { time: "", repeat: false, blind: true, x_sha256: "", y_sha256: "" };
const SHA = /^[0-9a-f]{0,64}$/, TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d+)?(Z|[+-]\d\d:\d\d)$/, DAY_MS = 86400e3;
const MARK_FIELDS = ["image", "method", "mark", "rating", "rater", "time", "reason", "slices", "mask_sha256"];
const PREFERENCE_FIELDS = ["image", "x", "y", "choice", "rater", "time", "repeat", "blind", "x_sha256", "y_sha256"];
function wrongRow(row, fields, texts) {
  if (!row || typeof row !== "object") return "no row of marks";
  const other = Object.keys(row).find((name) => !fields.includes(name));
  if (other) return `an unknown field ${other}`;
  const text = texts.find((name) => typeof row[name] !== "string");
  if (text) return `no ${text}`;
  if (!row.image || !row.rater.trim()) return "no image or no rater";
  // a clock may be wrong by hours; a mark from next year would replace every later one
  if (row.time && (!TIME.test(row.time) || !(Date.parse(row.time) < Date.now() + DAY_MS))) return `time ${row.time}`;
  return "";
}
function wrongMark(m) {
  const wrong = wrongRow(m, MARK_FIELDS, ["image", "rater", "mark", "time", "reason", "mask_sha256"]);
  if (wrong) return wrong;
  if (m.mark && !Object.hasOwn(MARK_GLYPH, m.mark)) return `mark ${m.mark}`;
  if (m.method !== null && typeof m.method !== "string") return "no method";
  if ((m.mark === "pass" || m.mark === "fail") && m.method === null) return `${m.mark} of no method`;
  if (m.rating !== null && !(Number.isInteger(m.rating) && m.rating >= 0 && m.rating <= 9)) return `rating ${m.rating}`;
  const slices = entryOf.get(m.image)?.picture?.slices ?? Infinity;  // a study's images have entries under their own name
  if (!Array.isArray(m.slices) || !m.slices.every((k) => Number.isInteger(k) && k >= 0 && k < slices)) return `slices ${m.slices}`;
  return SHA.test(m.mask_sha256) ? "" : "no checksum of a mask";
}
function wrongPreference(p) {
  const wrong = wrongRow(p, PREFERENCE_FIELDS, ["image", "x", "y", "choice", "rater", "time", "x_sha256", "y_sha256"]);
  if (wrong) return wrong;
  if (typeof p.repeat !== "boolean" || typeof p.blind !== "boolean") return "neither true nor false for repeat or blind";
  if (!Object.hasOwn(CHOICES, p.choice)) return `choice ${p.choice}`;
  if (p.x === p.y) return `${p.x} compared with itself`;
  return SHA.test(p.x_sha256) && SHA.test(p.y_sha256) ? "" : "no checksum of a mask";
}
const knownImages = new Set([...data.entries.map(imageOf), ...data.others]);  // others: in the study, but not on this page
const knownMethods = new Set([...data.compared, ...data.entries.flatMap(methodsOf)]);
function wrongName(image, ...methods) {
  if (!knownImages.has(image)) return `image ${image}, which is not in the study`;
  const other = methods.find((name) => name !== null && !knownMethods.has(name));
  return other === undefined ? "" : `method ${other}, which is not compared`;
}
function addMark(given) {              // from a file: of two marks by one rater of one mask, the later is kept
  const mark = { ...given, mask_sha256: given.mask_sha256 || "" };
  if ((MARKS.get(mark.image) || []).some((m) => isSameMark(m, mark) && moment(m) > moment(mark))) return 0;
  putMark(mark);
  return 1;
}
function saveMarks() { store("marks", [...MARKS.values()].flat()); store("preferences", preferences); store("undone", undone); }
function takeStored() {                // what another window of this page has changed since; the number of damaged rows
  if (!["marks", "preferences", "undone"].map(isNews).some(Boolean)) return 0;
  const rows = (what, defaults) => (Array.isArray(load(what)) ? load(what).map((row) => ({ ...defaults, ...row })) : []);
  const marks = rows("marks", MARK_DEFAULTS), answers = rows("preferences", PREFERENCE_DEFAULTS);
  const right = marks.filter((mark) => !wrongMark(mark));
  MARKS.clear();
  right.forEach(addMark);
  preferences = answers.filter((p) => !wrongPreference(p));
  undone = rows("undone", {}).filter((one) => [one.marks, one.made].every((own) => Array.isArray(own) && own.every((mark) => !wrongMark(mark))));
  return marks.length + answers.length - right.length - preferences.length;
}

function change(e, methods, changes) { // every change of marks goes through here, so that every one can be undone
  takeStored();
  const before = methods.map((method) => ownMark(e, method));
  const time = new Date().toISOString().replace(/[.]\d+/, "");
  const made = before.map((mark) => ({ ...mark, ...changes(mark), time, mask_sha256: resultOf(e, mark.method)?.sha || "" }));
  before.forEach(dropMark);
  made.forEach(putMark);
  undone = [...undone.slice(1 - MAX_UNDONE), { entry: e.id, rater, marks: before, made }];
  saveMarks(); drawMarks(); drawRows(); drawCounts();
}
const isAsMade = (mark) => {           // nobody has changed it since, nor a file that was loaded
  const now = (MARKS.get(mark.image) || []).find((m) => isSameMark(m, mark));
  return now ? now.mark === mark.mark && now.time === mark.time : isEmptyMark(mark);
};
function undo() {
  takeStored();
  const at = undone.findLastIndex((one) => one.rater === rater && entryOf.has(one.entry));
  if (at < 0) { notice("There is nothing to undo."); return; }
  const [last] = undone.splice(at, 1), e = entryOf.get(last.entry), isMine = last.made.every(isAsMade);
  if (isMine) { last.made.forEach(dropMark); last.marks.forEach(putMark); }
  saveMarks(); filterList();
  if (shown.includes(e)) open(e);
  else close();
  notice(`${isMine ? "Undone" : "Not undone, because it was changed since"}: ${title(e)}${shown.includes(e) ? "" : ", which the list does not show"}`);
}
function toMark(e) {                   // the methods that a mark is about; a notice if there are none
  const methods = e ? markedMethods(e) : [];
  if (e && !methods.length) notice(`${targetOf(e)} has no mask here, so nothing was marked. To mark it nonetheless, choose it again (M).`);
  return methods;
}
async function giveMark(mark, isKey = true) {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  const methods = mark === "artefact" ? [null] : toMark(e);  // an artefact is about the image, whichever method segments it
  if (!methods.length) return;
  const whose = `${title(e)}, ${mark === "artefact" ? "the image" : methods.join(" and ")}: ${mark}`;
  const same = methods.every((method) => ownMark(e, method).mark === mark);
  if (same && isKey) notice(`${whose} already. Its button removes it.`);  // a key pressed twice removes nothing
  else {
    change(e, methods, () => ({ mark: same ? "" : mark }));
    notice(same ? `${whose} removed. U puts it back.` : whose);
  }
  if (isKey) nextUnmarked();
}
async function giveRating(rating) {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  const methods = toMark(e), same = methods.every((method) => ownMark(e, method).rating === rating);
  if (!methods.length) return;
  change(e, methods, () => ({ rating: same ? null : rating }));
  notice(`${methods.join(" and ")}: rating ${rating}${same ? " removed. U puts it back." : ""}`);
}
async function toggleSlice() {
  const e = state.entry;
  if (!e || state.k === null || !(await askRater())) return;
  const methods = toMark(e);
  if (!methods.length) return;
  const named = !methods.every((method) => ownMark(e, method).slices.includes(state.k));
  change(e, methods, (m) => ({ slices: [...m.slices.filter((k) => k !== state.k), ...(named ? [state.k] : [])].sort((a, b) => a - b) }));
  notice(`Slice ${state.k} ${named ? "named in the mark" : "is no longer named. U puts it back."}`);
}
async function giveComment() {
  const e = state.entry;
  if (!e || !(await askRater())) return;
  const methods = toMark(e);
  if (!methods.length) return;
  const text = await ask("comment", ownMark(e, methods[0]).reason);
  if (text !== null) change(e, methods, () => ({ reason: text.trim() }));
}
function nextUnmarked() {
  const at = shown.indexOf(state.entry), after = [...shown.slice(at + 1), ...shown.slice(0, Math.max(at, 0))];
  filterList();                        // "not marked yet" no longer holds the image just marked
  const fits = new Set(shown), next = after.find((e) => !isMarked(e, markedMethods(e)) && fits.has(e));
  if (next) { open(next); return; }
  const left = shown.filter((e) => !isReviewed(e)).length;  // of other methods than the one chosen
  close(left ? `Every mask by ${state.target} in the list is marked; of ${left} images another method's mask is not. M chooses.`
    : "Every image of the list is marked. Save marks writes them into a file; U takes the last one back.");
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
const folded = (name) => name.normalize("NFC").toLowerCase().replace(/\s+/g, "");
function knownRater(name) {            // as it was written before: names that differ only in case or blanks belong to one rater
  const known = [rater, ...[...MARKS.values()].flat().map((m) => m.rater), ...preferences.map((p) => p.rater), ...seen.keys()];
  return known.find((other) => folded(other) === folded(name)) || name;
}
async function askRater(again = false) {
  if (!rater || again) {
    const name = ((await ask("rater", rater)) || "").trim();
    if (name) { rater = knownRater(name); store("rater", rater); renameSeen(); round = loadRound(); filterList(); if (state.entry) drawMarks(); }
  }
  $("rater-open").textContent = rater ? `Rater: ${rater}` : "Rater …";
  takeStored();
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
    button.title = stale ? `${kind} is about an earlier mask; look again` : `${kind} (${kind[0].toUpperCase()})`;
  }
  const words = (m) => [m.method || "image", m.mark && `${MARK_GLYPH[m.mark]} ${m.mark}`, m.rating !== null && `rated ${m.rating}`,
    m.slices.length && `slices ${m.slices.join(", ")}`, m.reason && `“${m.reason}”`, !isShown(e, m) && resultOf(e, m.method) && "of an earlier mask", m.rater !== rater && `by ${m.rater}`].filter(Boolean).join(" · ");
  $("given").replaceChildren(...marksOf(e).map((m) => make("li", { class: `mark-${m.mark || "note"}` }, words(m))));
}

// ------------------------------------------------------------------ files of marks
function yaml(text) { return /^[A-Za-z0-9_./-]+$/.test(text) && !text.startsWith("-") ? text : JSON.stringify(text); }
function listed(kind) {                // as the field's tools for manual correction and exclusion read it
  const files = new Map();              // a name that several images share does not identify one
  for (const e of data.entries) files.set(e.file, (files.get(e.file) || 0) + 1);
  const lines = data.entries.flatMap((e) => {
    const marks = shownMarks(e).filter((m) => m.mark === kind);
    const who = [...new Set(marks.map((m) => m.method).filter(Boolean))].join(", ");
    return marks.length ? [`- ${yaml(files.get(e.file) > 1 ? e.path : e.file)}${who ? `  # ${who}` : ""}\n`] : [];
  });
  return `FILES_SEG:${lines.length ? `\n${[...new Set(lines)].sort().join("")}` : " []\n"}`;
}
function marksFile() {                 // the marks that the study accepts: those of its images and methods
  takeStored();
  const isKnown = (image, ...methods) => !data.entries.some((e) => e.study) || !wrongName(image, ...methods);
  const every = [...MARKS.values()].flat(), known = every.filter((m) => isKnown(m.image, m.method)), answers = preferences.filter((p) => isKnown(p.image, p.x, p.y));
  const left = every.length - known.length + preferences.length - answers.length;
  if (left) notice(`${left} marks are of images or methods that the study no longer has, and not in the file.`);
  const marks = known.sort((a, b) => (`${a.image} ${a.method} ${a.rater} ${a.time}` < `${b.image} ${b.method} ${b.rater} ${b.time}` ? -1 : 1));
  return JSON.stringify({ report: data.report, dataset: data.title, marks, preferences: answers }, null, 1);
}
async function loadMarks() {
  const problems = [], told = [];
  takeStored();
  for (const file of $("load").files) {
    try {
      const content = JSON.parse(await file.text());
      if (!Array.isArray(content?.marks)) throw new Error("it holds no list of marks");
      if (!data.reports.includes(content.report)) throw new Error("its marks are of another report");
      const given = content.preferences ?? [];
      if (!Array.isArray(given)) throw new Error("its preferences are not a list");
      const wrong = [];
      const right = (rows, defaults, why) => rows.map((row) => ({ ...defaults, ...row })).filter((row) => { const text = why(row); if (text) wrong.push(text); return !text; });
      const marks = right(content.marks, MARK_DEFAULTS, (m) => wrongMark(m) || wrongName(m.image, m.method)), known = new Set(preferences.map(preferenceKey));
      const answers = right(given, PREFERENCE_DEFAULTS, (p) => wrongPreference(p) || wrongName(p.image, p.x, p.y)).filter((p) => !known.has(preferenceKey(p)));
      const count = marks.reduce((sum, mark) => sum + addMark(mark), 0);
      preferences.push(...answers);
      told.push(`${file.name}: ${count} marks and ${answers.length} blind answers loaded`);
      if (wrong.length) problems.push(`${file.name}: ${wrong.length} of ${content.marks.length + given.length} rows left out: ${[...new Set(wrong)].slice(0, 3).join("; ")}${new Set(wrong).size > 3 ? "; …" : ""}`);
    } catch (error) { problems.push(`${file.name} cannot be used: ${error.message}`); }
  }
  saveMarks();
  $("load").value = "";
  followFilter();
  if (state.entry) drawMarks();
  notice(told.join(" · "));
  if (problems.length) tell([...problems, ...told].join("\n"));
}
const preferenceKey = (p) => JSON.stringify(PREFERENCE_FIELDS.map((name) => p[name]));
function tell(text) {
  const box = $("message-box");
  $("message").textContent = box.open ? `${$("message").textContent}\n${text}` : text;
  if (!box.open) box.showModal();
}

{                                      // what the browser stores may be of an earlier version, or damaged
  const lost = takeStored();
  if (lost) setTimeout(() => tell(`${lost} of the marks that this browser stores are damaged and left out.`));
}
