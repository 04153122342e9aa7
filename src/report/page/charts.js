/* --- charts: each is drawn for the width it has, and again when that changes -----------------------------------------
 */

const drawn = [];

/* draw(width) returns a drawing; label says in words what is in it. */
function chart(label, draw) {
  const box = el("div", {class: "chart"});
  drawn.push({box, label, draw, width: 0});
  return box;
}

function drawAll() {
  for (const item of drawn) {
    const width = Math.max(220, Math.floor(item.box.clientWidth));
    if (item.width === width) continue;
    item.width = width;
    const picture = item.draw(width);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", item.label);
    item.box.replaceChildren(picture);
  }
}

function canvas(width, height, ...children) {
  return svg("svg", {viewBox: `0 0 ${width} ${height}`}, ...children);
}

/* --- the little window beside the pointer ------------------------------------------------------------------------- */

const tip = document.getElementById("tip");
function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = Math.max(4, y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + "px";
}
function hideTip() {
  tip.hidden = true;
}
document.addEventListener("pointermove", event => {
  const target = event.target.closest && event.target.closest("[data-tip]");
  if (target)
    showTip(target.getAttribute("data-tip"), event.clientX, event.clientY);
  else
    hideTip();
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") hideTip();
});

/* --- scales ------------------------------------------------------------------------------------------------------- */

function linear(from, to, low, high) {
  return value => low + (value - from) / (to - from || 1) * (high - low);
}
function logarithmic(from, to, low, high) {
  const scale = linear(Math.log(from), Math.log(to), low, high);
  return value => scale(Math.log(value));
}
function powersOfTen(from, to) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(from) - 1e-9); power <= Math.log10(to) + 1e-9; power++) ticks.push(10 ** power);
  return ticks;
}
function niceTicks(to, count) {
  const raw = to / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(value => value >= raw);
  const ticks = [];
  for (let value = 0; value <= to * 1.0001; value += step) ticks.push(value);
  return ticks;
}
function tenTo(value) {
  const power = Math.round(Math.log10(value));
  return svg("tspan", {}, "10", svg("tspan", {dy: -4, "font-size": 8}, String(power).replace("-", "−")));
}
function path(points) {
  return points.map((p, i) => (i ? "L" : "M") + p[0].toFixed(1) + " " + p[1].toFixed(1)).join("");
}

function legend(entries) {
  return el(
      "div", {class: "legend"},
      entries.map(
          ([color, name, dashed]) => el(
              "span", {},
              el("i", {class: dashed ? "dash" : "", style: dashed ? `border-color:${color}` : `background:${color}`}),
              name)));
}

/* --- a map of cells: rows x columns, darker is more --------------------------------------------------------------- */

/* value(row, column) is a number or null; tipOf(row, column) words; cells with isMarked(row, column), which need not be
 * given, are underlined. Arrow keys walk from cell to cell. */
function heatMap(label, rows, columns, value, scale, tipOf, columnWord, isMarked) {
  return chart(label, width => {
    const left = Math.min(150, Math.max(70, Math.max(...rows.map(row => row.length)) * 6.2 + 8)), top = 2;
    const w = Math.max(3, (width - left - 2) / columns.length), h = Math.max(16, Math.min(26, w * 1.4));
    const bottom = top + h * rows.length, full = Math.max(width, left + w * columns.length);
    const picture = canvas(full, bottom + 30);
    if (full > width) picture.style.width = full + "px"; /* its box scrolls */
    const gap = w > 6 ? 1 : 0;
    let marks = ""; /* one path: there may be ten thousand */
    rows.forEach((row, r) => {
      picture.append(
          svg("text", {x: left - 6, y: top + h * (r + .5) + 4, "text-anchor": "end"},
              row.length * 6.2 > left ? row.slice(-Math.floor(left / 6.4)) : row));
      columns.forEach((column, c) => {
        const amount = value(row, column);
        picture.append(svg("rect", {
          x: left + w * c,
          y: top + h * r,
          width: w - gap,
          height: h - gap,
          rx: gap ? 1.5 : 0,
          fill: amount == null ? "var(--grid)" : "var(--heat)",
          "fill-opacity": amount == null ? 1 : scale(amount).toFixed(3),
          "data-tip": tipOf(row, column)
        }));
        if (isMarked && isMarked(row, column))
          marks += `M${(left + w * c).toFixed(1)} ${(top + h * (r + 1) - gap - 3).toFixed(1)}h${
              (w - gap).toFixed(1)}v3h${(gap - w).toFixed(1)}z`;
      });
    });
    if (marks) picture.append(svg("path", {class: "marks", d: marks}));
    const every = Math.ceil(columns.length / Math.max(2, (width - left) / 46));
    columns.forEach((column, c) => {
      if (c % every === 0)
        picture.append(svg("text", {x: left + w * (c + .5), y: bottom + 13, "text-anchor": "middle"}, column));
    });
    picture.append(svg("text", {x: left, y: bottom + 27}, columnWord));
    const cursor = svg("rect", {class: "cursor", width: w, height: h, visibility: "hidden"});
    picture.append(cursor);
    walkable(picture, cursor, rows, columns, (r, c) => [left + w * c, top + h * r], tipOf);
    return picture;
  });
}

function walkable(picture, cursor, rows, columns, corner, tipOf) {
  let r = 0, c = 0;
  const show = () => {
    const [x, y] = corner(r, c);
    cursor.setAttribute("x", x);
    cursor.setAttribute("y", y);
    cursor.setAttribute("visibility", "visible");
    const box = cursor.getBoundingClientRect();
    showTip(tipOf(rows[r], columns[c]), box.right, box.bottom);
  };
  picture.setAttribute("tabindex", "0");
  picture.addEventListener("blur", () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  });
  picture.addEventListener("keydown", event => {
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    r = Math.max(0, Math.min(rows.length - 1, r + step[0]));
    c = Math.max(0, Math.min(columns.length - 1, c + step[1]));
    show();
  });
}

/* --- lines over blocks -------------------------------------------------------------------------------------------- */

/* series: [{name, color, dashed, points: [[x, y]]}], y on a scale of powers of ten from `low` to `high`. */
function lines(label, series, low, high, xs, height = 150) {
  return chart(label, width => {
    const left = 34, right = width - 6, top = 6, bottom = height - 18;
    const x = linear(Math.min(...xs), Math.max(...xs), left, right), y = logarithmic(low, high, bottom, top);
    const picture = canvas(width, height);
    for (const tick of powersOfTen(low, high))
      picture.append(
          svg("line", {class: "gridline", x1: left, x2: right, y1: y(tick), y2: y(tick)}),
          svg("text", {x: left - 5, y: y(tick) + 4, "text-anchor": "end"}, tenTo(tick)));
    picture.append(svg("line", {class: "axis", x1: left, x2: right, y1: bottom, y2: bottom}));
    for (const tick of [Math.min(...xs), Math.max(...xs)])
      picture.append(
          svg("text", {x: x(tick), y: height - 4, "text-anchor": tick === Math.min(...xs) ? "start" : "end"}, tick));
    for (const one of series) {
      const points = one.points.filter(p => isNumber(p[1]) && p[1] > 0).map(p => [x(p[0]), y(p[1])]);
      picture.append(svg("path", {
        d: path(points),
        fill: "none",
        stroke: one.color,
        "stroke-width": one.dashed ? 1.3 : 2,
        "stroke-dasharray": one.dashed ? "4 3" : null,
        "stroke-linejoin": "round"
      }));
      if (points.length === 1)
        picture.append(svg("circle", {cx: points[0][0], cy: points[0][1], r: 3, fill: one.color}));
    }
    const band = (right - left) / xs.length;
    for (const at of xs) {
      const words =
          series.map(one => [one.name, (one.points.find(p => p[0] === at) || [])[1]]).filter(p => isNumber(p[1]));
      picture.append(svg("rect", {
        x: x(at) - band / 2,
        y: top,
        width: band,
        height: bottom - top,
        fill: "transparent",
        "data-tip": `block ${at}\n` + words.map(([name, value]) => `${name}: ${small(value)}`).join("\n")
      }));
    }
    return picture;
  });
}

/* --- bars and histograms ------------------------------------------------------------------------------------------ */

/* values as bars; over: a second list drawn as a line. names(i): what a bar stands for. */
function histogram(label, values, over, names, marks, height = 120) {
  return chart(label, width => {
    const bottom = height - 16, top = 4, most = Math.max(...values, ...(over || []), 1), w = width / values.length;
    const y = linear(0, most, bottom, top), picture = canvas(width, height);
    values.forEach((value, i) => picture.append(svg("rect", {
      x: w * i + w * .06,
      y: y(value),
      width: w * .88,
      height: Math.max(0, bottom - y(value)),
      fill: "var(--c0)",
      "fill-opacity": over ? .45 : .85,
      "data-tip": `${names(i)}: ${whole(value)}` + (over ? `\nquantized: ${whole(over[i])}` : "")
    })));
    if (over)
      picture.append(svg("path", {
        d: path(over.map((value, i) => [w * (i + .5), y(value)])),
        fill: "none",
        stroke: "var(--c1)",
        "stroke-width": 1.8,
        "pointer-events": "none"
      }));
    picture.append(svg("line", {class: "axis", x1: 0, x2: width, y1: bottom, y2: bottom}));
    marks.forEach(
        ([at, text], i) => picture.append(
            svg("text", {
              x: at * width,
              y: height - 3,
              "text-anchor": i === 0     ? "start" :
                  i === marks.length - 1 ? "end" :
                                           "middle"
            },
                text)));
    return picture;
  });
}

/* Horizontal bars: rows [{name, parts: [{value, color, tip}], text}]. */
function bars(label, rows, most) {
  return chart(label, width => {
    const left = Math.min(width * .45, 16 + 6.6 * Math.max(...rows.map(row => row.name.length))), h = 26, right = 64,
          picture = canvas(width, h * rows.length + 2);
    const x = linear(0, most || 1, 0, width - left - right);
    rows.forEach((row, r) => {
      let at = left;
      const room = Math.floor(left / 6.6), name = row.name.length > room ? row.name.slice(0, room - 1) + "…" : row.name;
      picture.append(svg("text", {class: "strong", x: 0, y: h * r + 17, "data-tip": row.name}, name));
      for (const part of row.parts) {
        picture.append(svg("rect", {
          x: at,
          y: h * r + 4,
          width: Math.max(0, x(part.value)),
          height: h - 8,
          fill: part.color,
          "data-tip": part.tip
        }));
        at += Math.max(0, x(part.value));
      }
      picture.append(svg("text", {class: "strong", x: at + 6, y: h * r + 17}, row.text));
    });
    return picture;
  });
}
