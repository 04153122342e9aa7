/* --- data, words and elements ----------------------------------------------------------------------------------------
 */

const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;

const STARVED = 32;
const FLAGS = [
  [1, "raised damping", "the Hessian was not positive definite at the damping asked for"],
  [2, "only the diagonal used", "no damping made the Hessian positive definite"],
  [4, "dead inputs", "some inputs were zero in every calibration token, and their weights are quantized as zero"],
  [8, "scales at a limit", "some scales are too large or too small for their type"],
  [16, "no gain", "the error is no better than plain rounding's"],
  [STARVED, "few tokens", "the router sent them fewer calibration tokens than expert_tokens asks for"],
  [64, "fewer tokens than inputs", "the calibration has fewer tokens than they have inputs"],
];

/* el("p", {class: "soft"}, "text", child): an element; with svg("g", ...) one of a drawing. */
function build(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on"))
      node.addEventListener(key.slice(2), value);
    else if (value === true)
      node.setAttribute(key, "");
    else if (value !== false && value != null)
      node.setAttribute(key, value);
  }
  node.append(...children.flat().filter(child => child != null));
  return node;
}
function el(name, attributes, ...children) {
  return build(document.createElement(name), attributes, children);
}
function svg(name, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function isNumber(value) {
  return typeof value === "number" && isFinite(value);
}
function digits(value, count) {
  return isNumber(value) ? Number(value).toPrecision(count) : "–";
}
function fixed(value, places) {
  return isNumber(value) ? value.toFixed(places) : "–";
}
function whole(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en") : "–";
}
function counted(count, word) {
  return `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
}
function percent(value, places = 1) {
  return isNumber(value) ? (100 * value).toFixed(places) + " %" : "–";
}
function small(value) {
  return isNumber(value) ? (value === 0 ? "0" : value.toExponential(2)) : "–";
}
function size(bytes) {
  if (!isNumber(bytes)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    unit++;
  }
  return (unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[unit];
}
function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 90) return seconds.toFixed(1) + " s";
  if (seconds < 5400) return Math.floor(seconds / 60) + " min " + Math.round(seconds % 60) + " s";
  return Math.floor(seconds / 3600) + " h " + Math.round(seconds % 3600 / 60) + " min";
}
function mean(values) {
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
}
function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}
function least(values) {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
} /* Math.min(...) of many overflows the stack */
function largest(values) {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}
function baseName(path) {
  return String(path || "").replace(/\/+$/, "").split("/").pop();
}

/* --- layers ------------------------------------------------------------------------------------------------------- */

/* "model.layers.3.mlp.experts.5.up_proj": block 3, module "mlp.experts.*.up_proj", expert 5. */
function place(layer) {
  const block = /\.(\d+)\./.exec(layer.name), expert = /experts\.(\d+)\./.exec(layer.name);
  layer.block = block ? Number(block[1]) : null;
  layer.module = block ? layer.name.slice(block.index + block[0].length) : layer.name;
  layer.expert = expert ? Number(expert[1]) : null;
  if (expert) layer.module = layer.module.replace(/experts\.\d+\./, "experts.*.");
  layer.ratio = layer.error_rtn > 0 ? layer.error / layer.error_rtn : null;
  return layer;
}

function unpack(run, index) {
  run.index = index;
  run.color = `var(--c${index % 6})`;
  run.layers = run.rows.map(row => place(Object.fromEntries(run.columns.map((name, i) => [name, row[i]]))));
  run.done = run.layers.filter(layer => isNumber(layer.error));
  run.modules = [...new Set(run.layers.map(layer => layer.module))];
  run.blocks = [...new Set(run.layers.map(layer => layer.block).filter(isNumber))].sort((a, b) => a - b);
  run.flagged = run.done.filter(layer => layer.flags);
  run.bits = 8 * run.quantized_bytes / run.weights;
  run.isRounding = run.config.solver === "rtn";
  const same = path => path != null && path === run.config.model;
  run.before = run.evals.filter(evaluation => same(evaluation.model));
  run.after = run.evals.filter(evaluation => !same(evaluation.model));
}

/* Layers by module and block; experts of a block and module count as one, with their mean. */
function cells(run, key) {
  const sums = new Map();
  for (const layer of run.done) {
    if (!isNumber(layer.block) || !isNumber(layer[key])) continue;
    const at = layer.module + "\n" + layer.block, cell = sums.get(at) || {sum: 0, count: 0};
    cell.sum += layer[key];
    cell.count++;
    sums.set(at, cell);
  }
  return (module, block) => {
    const cell = sums.get(module + "\n" + block);
    return cell ? cell.sum / cell.count : null;
  };
}
