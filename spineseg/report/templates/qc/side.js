// ------------------------------------------------------------------ sagittal strip and area, one axis for both
let axis = null;                      // how slices map to the strip's pixels
function drawSide(e, detail, low, high) {
  const side = $("side"), strip = detail.sagittal, count = detail.tiles.centres.length;
  const height = $("canvas").clientHeight - 2, top = 34, bottom = 26;
  const span = high - low + 1, mm = span * strip.zooms[1];
  const perMm = Math.min(Math.max(1, height - top - bottom) / mm,  // not below: the list may cover the viewer
     clamp(window.innerWidth * 0.17, 150, 330) / (strip.columns * strip.zooms[0]));
  const body = mm * perMm, width = strip.columns * strip.zooms[0] * perMm, chart = 150, left = width + 40;
  axis = { top, low, high, rowPx: strip.zooms[1] * perMm };
  const svg = make("svg:svg", { width: left + chart + 14, height: Math.max(top + body + bottom, 140), role: "img",
    "aria-label": "Sagittal plane along the cord, and area of every slice" });
  svg.append(make("svg:clipPath", { id: "strip-clip" }, make("svg:rect", { x: 0, y: top, width, height: body })));
  const clipped = make("svg:g", { "clip-path": "url(#strip-clip)" });
  const rowPx = axis.rowPx, columnPx = strip.zooms[0] * perMm, y0 = top - (count - 1 - high) * rowPx;
  clipped.append(make("svg:image", { href: encodeURI(e.picture.sagittal), x: 0, y: y0, width, height: count * rowPx, preserveAspectRatio: "none" }));
  const group = make("svg:g", { transform: `matrix(${-columnPx} 0 0 ${-rowPx} ${(strip.first + strip.columns) * columnPx} ${y0 + count * rowPx})` });
  for (const kind of ["halo", "layer"]) inOrder(detail, (layer, n) => group.append(make("svg:path", { class: `${kind} ${kind}-${n}`, d: layer.sagittal })));
  clipped.append(group);
  svg.append(clipped, ...letters(width, top, body), ...areaChart(detail, left, chart, top, body, low, high));
  svg.append(make("svg:g", { id: "cursor" },
    make("svg:rect", { x: 0, width, height: Math.max(rowPx, 1.5), fill: "#8ecbff", "fill-opacity": 0.35 }),
    make("svg:line", { x1: left, x2: left + chart, stroke: "#8ecbff", "stroke-width": 1.5 })));
  side.replaceChildren(svg);
  moveCursor();
  drawDiscs();
}
function letters(width, top, body) {
  const text = (x, y, letter, anchor = "middle") => make("svg:text", { x, y, "text-anchor": anchor, class: "strong" }, letter);
  return [text(width / 2, top - 6, "S"), text(width / 2, top + body + 14, "I"), text(4, top - 6, "A", "start"), text(width - 3, top - 6, "P", "end")];
}
function areaChart(detail, left, chart, top, body, low, high) {
  const limits = data.plausible;         // null: none are set
  const values = detail.layers.flatMap((l) => l.csa.slice(low, high + 1)).filter((v) => v !== null);
  const reach = Math.max(limits ? limits[1] * 1.05 : 0, Math.max(0, ...values) * 1.05) || 100;
  const tick = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((step) => reach / step <= 6) || 1000;
  const most = Math.ceil(reach / tick) * tick;
  const x = (area) => left + (area / most) * chart, y = (k) => top + (high - k + 0.5) * axis.rowPx;
  const parts = limits ? [make("svg:rect", { class: "plausible", x: x(limits[0]), y: top, width: x(limits[1]) - x(limits[0]), height: body, fill: "#8fdcae", "fill-opacity": 0.07 })] : [];
  for (let area = 0; area <= most; area += tick) {
    parts.push(make("svg:line", { x1: x(area), x2: x(area), y1: top, y2: top + body, stroke: "#ffffff", "stroke-opacity": area ? 0.1 : 0.35 }));
    parts.push(make("svg:text", { x: x(area), y: top + body + 14, "text-anchor": "middle" }, String(area)));
  }
  const corrected = detail.layers.some((l) => l.corrected);
  const heading = make("svg:text", { x: left + chart / 2, y: 16, "text-anchor": "middle", class: "strong" }, `area, ${AREA_UNIT}`);
  heading.append(make("svg:title", {}, (corrected ? "Corrected for the cord's angle." : "In the slice, not corrected for the cord's angle.") +
    (limits ? ` Shaded: plausible, ${limits[0]} to ${limits[1]} ${AREA_UNIT}.` : "")));
  parts.push(heading);
  const every = Math.max(1, Math.ceil((high - low + 1) / Math.max(2, Math.floor(body / 28))));
  for (let k = low; k <= high; k += every) parts.push(make("svg:text", { x: left - 6, y: y(k) + 4, "text-anchor": "end" }, String(k)));
  detail.layers.forEach((layer, n) => parts.push(...areaLine(layer.csa, n, x, y, low, high)));
  return parts;
}
function areaLine(csa, n, x, y, low, high) {
  let path = "", pen = "M";
  const dots = [];
  for (let k = low; k <= high; k++) {
    if (csa[k] === null) { pen = "M"; continue; }
    path += `${pen}${x(csa[k]).toFixed(1)} ${y(k).toFixed(1)}`;
    pen = "L";
    if (high - low < 60) dots.push(make("svg:circle", { cx: x(csa[k]), cy: y(k), r: 2, class: `curve-${n}`, style: "stroke:none" }));
  }
  return [make("svg:path", { d: path, class: `curve-${n}`, style: "fill:none" }), ...dots];
}
function moveCursor() {
  const cursor = $("cursor");
  if (!cursor || !axis || state.k === null) return;
  const y = axis.top + (axis.high - state.k) * axis.rowPx, inside = state.k >= axis.low && state.k <= axis.high;
  cursor.style.display = inside ? "" : "none";
  cursor.children[0].setAttribute("y", y);
  for (const end of ["y1", "y2"]) cursor.children[1].setAttribute(end, y + axis.rowPx / 2);
}

