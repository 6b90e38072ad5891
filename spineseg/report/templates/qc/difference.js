// ------------------------------------------------------------------ where two masks differ
// Outlines run along voxel edges ("M2 3h2v1h-2z"), so a row of voxels is inside between every second
// vertical edge, and areas are counts of voxels.
function rowsOf(path) {
  const rows = new Map();
  for (const [, x0, y0, steps] of path.matchAll(/M(-?\d+) (-?\d+)([^M]*)/g)) {
    let x = Number(x0), y = Number(y0);
    const startX = x, startY = y;
    const down = (to) => { for (let row = Math.min(y, to); row < Math.max(y, to); row++) { if (!rows.has(row)) rows.set(row, []); rows.get(row).push(x); } y = to; };
    for (const [, axis, by] of steps.matchAll(/([hv])(-?\d+)/g)) if (axis === "h") x += Number(by); else down(y + Number(by));
    if (x === startX) down(startY);    // z closes the loop by its last edge
  }
  for (const edges of rows.values()) edges.sort((a, b) => a - b);
  return rows;
}
const inside = (edges, x) => edges.filter((edge) => edge <= x).length % 2 === 1;
function beyond(rows, others) {        // voxels of one mask that the other lacks: their number and a path
  let count = 0, path = "";
  for (const [row, edges] of rows) {
    const rest = others.get(row) || [];
    const stops = [...new Set([...edges, ...rest])].sort((a, b) => a - b);
    for (let n = 0; n + 1 < stops.length; n++) {
      if (!inside(edges, stops[n]) || inside(rest, stops[n])) continue;
      const width = stops[n + 1] - stops[n];
      count += width;
      path += `M${stops[n]} ${row}h${width}v1h-${width}z`;
    }
  }
  return { count, path };
}
function pairsOf(detail) {
  const names = detail.layers.map((l) => l.name);
  return names.flatMap((a, n) => names.slice(n + 1).map((b) => `${a} – ${b}`));
}
function pairNow(detail) {
  const pairs = detail ? pairsOf(detail) : [];
  return pairs.includes(state.pair) ? state.pair : pairs[0] || "";
}
function differenceAt(detail, t) {     // in tile t: [name, its voxels that the other lacks]
  const names = pairNow(detail).split(" – "), [a, b] = names.map((name) => rowsOf(detail.layers.find((l) => l.name === name).paths[t]));
  const mm2 = detail.tiles.zooms[0] * detail.tiles.zooms[1];
  return [[names[0], beyond(a, b)], [names[1], beyond(b, a)]].map(([name, more]) => ({ name, path: more.path, mm2: more.count * mm2 }));
}
function differenceText(parts) { return parts.map((part) => `${part.name} alone ${part.mm2.toFixed(1)} ${AREA_UNIT}`).join(", "); }
const NO_PAIR = "There are no two masks to compare here.";
function toggleDifference() {
  if (!pairNow(detailNow())) { notice(NO_PAIR); return; }
  state.difference = !state.difference;
  storeView(); drawLayers(); drawStage();
  say(state.difference ? `difference of ${pairNow(detailNow())}` : "difference off");
}

let flicker = null;                    // the timer while two masks alternate
let unflickered = "";                  // the layer that was shown alone before, or all
function stopFlicker() {
  if (flicker === null) return;
  clearInterval(flicker);
  flicker = null;
  state.only = unflickered;
}
function toggleFlicker() {
  if (flicker !== null) { stopFlicker(); show(state.only); return; }
  const names = pairNow(detailNow()).split(" – ");
  if (names.length < 2) { notice(NO_PAIR); return; }
  const other = () => (state.only === names[0] ? names[1] : names[0]);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) { show(other()); return; }  // in turn by each press
  const swap = () => { state.only = other(); state.on = true; drawLayers(); };
  unflickered = state.only;
  swap();
  flicker = setInterval(swap, 450);
  say(`flicker of ${names.join(" and ")}`);
}
