/* --- sections about layers ---------------------------------------------------------------------------------------- */

function section(id, title, words, ...children) {
  return el(
      "section", {id, "aria-labelledby": id + "-title"}, el("h2", {id: id + "-title"}, title),
      words ? el("p", {}, words) : null, ...children);
}

const MOST_NAMED = 200; /* in the list of one warning */

/* Counted by kind, each with the layers it concerns. */
function warningsOf(run) {
  const concerned = bit => run.done.filter(layer => layer.flags & bit);
  const list = FLAGS.map(([bit, name, meaning]) => ({bit, name, meaning, layers: concerned(bit)}))
                   .filter(entry => entry.layers.length);
  const missing = run.layers.length - run.done.length;
  return {list, missing, count: run.flagged.length + (missing ? 1 : 0)};
}

function warningItem({bit, name, meaning, layers}) {
  const ofExperts = bit === STARVED, found = ofExperts ? expertItems(layers) : layerItems(layers);
  const count = counted(found.length, ofExperts ? "expert" : "layer");
  return el(
      "li", {}, el("strong", {}, `${count}: ${name}`), `, as ${meaning}.`,
      el("details", {}, el("summary", {}, "which"), el("ul", {}, found.slice(0, MOST_NAMED)),
         found.length > MOST_NAMED ?
             el("p", {}, `and ${whole(found.length - MOST_NAMED)} more, in the table of layers`) :
             null));
}
function layerItems(layers) {
  return [...layers]
      .sort((a, b) => b.error - a.error)
      .map(layer => el("li", {}, el("code", {}, layer.name), warningDetail(layer)));
}

/* All layers of an expert see the same tokens: it is named once. */
function expertItems(layers) {
  const experts = new Map(layers.map(layer => [layer.block + "\n" + layer.expert, layer]));
  return [...experts.values()]
      .sort((a, b) => a.tokens - b.tokens)
      .map(layer => el("li", {}, `block ${layer.block}, expert ${layer.expert}: ${whole(layer.tokens)} tokens`));
}
function warningDetail(layer) {
  const words = [];
  if (layer.flags & 1) words.push(`damping ${digits(layer.damping, 2)}`);
  if (layer.dead_inputs) words.push(`${layer.dead_inputs} dead inputs`);
  if (layer.limited_scales) words.push(`${layer.limited_scales} scales`);
  if (layer.flags & 16) words.push(`error ${small(layer.error)}, rounding ${small(layer.error_rtn)}`);
  return words.length ? ": " + words.join(", ") : null;
}

function warningSection(run) {
  const {list, missing, count} = warningsOf(run);
  const title = count ? "Warnings" : "No warnings";
  const all = [...list.map(warningItem)];
  if (missing)
    all.unshift(
        el("li", {}, el("strong", {}, `${missing} of ${run.layers.length} layers are not done. `),
           "The run has not finished; go on with the same command and --resume."));
  const box = section(
      "warnings", runs.length > 1 ? `${title}: ${run.name}` : title, null,
      count ?
          el("ul", {}, all) :
          el("p", {},
             "No raised damping, no dead inputs, no scales at their limits, no starved experts, more tokens than " +
                 "inputs, and no layer that plain rounding would have done as well."));
  box.className = "warnings" + (count ? "" : " none");
  return box;
}

/* --- error by block and module ------------------------------------------------------------------------------------ */

function errorScale(run) {
  const values = run.done.flatMap(layer => [layer.error, layer.error_rtn])
                     .filter(value => isNumber(value) && value > 0)
                     .sort((a, b) => a - b);
  const low = values[Math.floor(values.length * .03)],
        high = values[values.length - 1]; /* a few far below would fade all others */
  return {low, high: high > low ? high : low * 10, scale: logarithmic(low, high > low ? high : low * 10, .05, 1)};
}

function heatSection(run) {
  const {low, high, scale} = errorScale(run), error = cells(run, "error"), rounding = cells(run, "error_rtn");
  const words = (module, block) => `block ${block}, ${module}\nerror ${small(error(module, block))}\nplain rounding ${
      small(rounding(module, block))}`;
  const safe = value => (row, column) => value(row, column) > 0 ? value(row, column) : null;
  const map = (title, value) =>
      el("div", {}, el("h3", {}, title),
         el("div", {class: "scroll"},
            heatMap(
                `${title}, by block and module; the table of layers has the numbers`, run.modules, run.blocks,
                safe(value), amount => Math.max(.05, Math.min(1, scale(amount))), words, "block, the first is 0")));
  const key =
      el("div", {class: "legend"}, el("span", {}, "to " + small(low)),
         ...[.1, .3, .5, .7, .9].map(t => el("i", {style: `background:var(--heat);opacity:${t}`})),
         el("span", {}, small(high)), el("span", {}, "one scale of powers of ten for both"));
  return section(
      "map", "Error of every layer" + (runs.length > 1 ? `: ${run.name}` : ""),
      "Squared error of a layer's outputs, relative to the outputs themselves: tr((W−Q) H (W−Q)ᵀ) / tr(W H Wᵀ). " +
          "Stronger colour is worse. Arrow keys walk through a map.",
      key,
      el("div", {class: "panels wide"}, map(run.isRounding ? "This run" : "GPTQ", error),
         map("Plain rounding of the same weights", rounding)));
}

/* --- error along the model ---------------------------------------------------------------------------------------- */

const MOST_PANELS = 24;

function lineSection(shown) {
  const modules = [...new Set(shown.flatMap(run => run.modules))],
        xs = [...new Set(shown.flatMap(run => run.blocks))].sort((a, b) => a - b);
  const one = shown.length === 1;
  const maps = shown.map(run => ({run, error: cells(run, "error"), rounding: cells(run, "error_rtn")}));
  const all = maps.flatMap(
                      ({error, rounding}) => modules.flatMap(
                          module => xs.flatMap(block => [error(module, block), rounding(module, block)])))
                  .filter(value => value > 0);
  const low = least(all) * .8, high = largest(all) * 1.25;
  const panel = module => {
    const series = maps.map(
        ({run, error}) => (
            {name: one ? "GPTQ" : run.name, color: run.color, points: xs.map(block => [block, error(module, block)])}));
    if (one && !shown[0].isRounding)
      series.push({
        name: "rounding",
        color: "var(--rounding)",
        dashed: true,
        points: xs.map(block => [block, maps[0].rounding(module, block)])
      });
    return el("div", {}, el("h3", {}, module), lines(`Error of ${module} over the blocks`, series, low, high, xs));
  };
  const names = shown.map(run => [run.color, one ? "GPTQ" : run.name]);
  if (one && !shown[0].isRounding) names.push(["var(--rounding)", "plain rounding", true]);
  return section(
      "lines", "Error along the model",
      one ? "The same errors, module by module, from the first block to the last." :
            "The errors of all runs, module by module, from the first block to the last.",
      legend(names), el("div", {class: "panels"}, modules.slice(0, MOST_PANELS).map(panel)),
      modules.length > MOST_PANELS ?
          el("p", {class: "soft"}, `${modules.length - MOST_PANELS} more kinds of layers are in the table only.`) :
          null);
}

/* --- weights and codes -------------------------------------------------------------------------------------------- */

function weightPanel(run, entry) {
  const layer = run.layers[entry.layer], n = entry.quantized.length, range = entry.range;
  const at = i => `${(range * (2 * i / n - 1)).toPrecision(2)} to ${(range * (2 * (i + 1) / n - 1)).toPrecision(2)}`;
  const marks = [[0, (-range).toPrecision(2)], [.5, "0"], [1, range.toPrecision(2)]];
  const weights = entry.original ?
      histogram(
          `Weights of ${layer.name} before (bars) and after quantization (line)`, entry.original, entry.quantized,
          i => `weights ${at(i)}`, marks) :
      histogram(`Weights of ${layer.name} after quantization`, entry.quantized, null, i => `weights ${at(i)}`, marks);
  const codes = entry.codes &&
      histogram(`How often each code is used in ${layer.name}`, entry.codes, null, i => `code ${i}`,
                [[0, "code 0"], [1, String(entry.codes.length - 1)]], 70);
  return el(
      "div", {}, el("h3", {}, layer.name),
      el("p", {class: "soft"},
         `error ${small(layer.error)}, rounding ${small(layer.error_rtn)}, ${layer.out} × ${layer.in}, ${
             layer.bits} bits in groups of ${layer.group_size}`),
      weights, codes);
}

function weightSection(run) {
  if (!run.histograms.length) return null;
  const hasOriginal = run.histograms.some(entry => entry.original);
  return section(
      "weights", "Weights and codes of the worst layers",
      "What lies beyond six standard deviations is in the outermost bars. " +
          (hasOriginal ? "" :
                         "The model before is not at its place any more, so only the quantized weights are shown."),
      hasOriginal ?
          legend([["color-mix(in srgb, var(--c0) 50%, transparent)", "before"], ["var(--c1)", "quantized", true]]) :
          null,
      el("div", {class: "panels"}, run.histograms.map(entry => weightPanel(run, entry))));
}

/* --- damping and dead inputs -------------------------------------------------------------------------------------- */

function dampingSection(run) {
  const levels = [...new Set(run.done.map(layer => layer.damping))].sort((a, b) => a - b);
  const dead = run.done.filter(layer => layer.dead_inputs > 0), diagonal = run.done.filter(layer => layer.raised < 0);
  const rows = levels.map(level => {
    const layers = run.done.filter(layer => layer.damping === level);
    return {
      name: "λ = " + digits(level, 2),
      text: whole(layers.length),
      parts: [{value: layers.length, color: "var(--c0)", tip: `${layers.length} layers with damping ${level}`}]
    };
  });
  const deadRows = [...dead]
                       .sort((a, b) => b.dead_inputs / b.in - a.dead_inputs / a.in)
                       .slice(0, 12)
                       .map(layer => ({
                              name: `${layer.block}.${moduleWords(layer)}`,
                              text: percent(layer.dead_inputs / layer.in),
                              parts: [{
                                value: layer.dead_inputs / layer.in,
                                color: "var(--c1)",
                                tip: `${layer.dead_inputs} of ${layer.in} inputs`
                              }]
                            }));
  return section(
      "damping", "Damping and dead inputs",
      "Damping λ is added to the Hessian's diagonal as a fraction of its mean, and raised where the Hessian was not positive definite. " +
          "A dead input was zero in every calibration token.",
      el("div", {class: "panels wide"},
         el("div", {}, el("h3", {}, "Layers by the damping they got"),
            bars("Number of layers by damping", rows, run.done.length),
            diagonal.length ? el("p", {}, `${diagonal.length} layers used only the diagonal.`) : null),
         el("div", {}, el("h3", {}, "Dead inputs"),
            dead.length ? bars(
                              "Share of dead inputs, layers with the most", deadRows,
                              Math.max(...deadRows.map(row => row.parts[0].value))) :
                          el("p", {}, "None: every input of every layer was active."))));
}

/* --- experts ------------------------------------------------------------------------------------------------------ */

function expertSection(run) {
  const experts = run.done.filter(layer => layer.expert != null);
  if (!experts.length) return null;
  const tokens = new Map(), blocks = [...new Set(experts.map(layer => layer.block))].sort((a, b) => a - b);
  for (const layer of experts) tokens.set(layer.block + "\n" + layer.expert, layer.tokens);
  const columns = [...new Set(experts.map(layer => layer.expert))].sort((a, b) => a - b),
        most = Math.max(largest([...tokens.values()]), 1);
  const at = (block, expert) => tokens.get(block.replace("block ", "") + "\n" + expert) ?? null;
  const values = [...tokens.values()], wanted = run.config.expert_tokens;
  const isStarved = count => count != null && count < wanted;
  return section(
      "experts", "Tokens per expert" + (runs.length > 1 ? `: ${run.name}` : ""),
      `Calibration tokens that each expert saw: ${whole(least(values))} to ${whole(most)}, ${
          whole(mean(values))} on average. ` +
          starvedWords(values, wanted, values.filter(isStarved).length),
      el("div", {class: "scroll"},
         heatMap(
             "Tokens of each expert, by block", blocks.map(block => "block " + block), columns, at,
             amount => amount === 0 ? 0 : .08 + .92 * amount / most,
             (block, expert) => `${block}, expert ${expert}\n${whole(at(block, expert))} tokens`, "expert",
             (block, expert) => isStarved(at(block, expert)))));
}

function starvedWords(values, wanted, count) {
  if (!count) return isNumber(wanted) ? `None saw fewer than ${whole(wanted)}.` : "";
  return `${whole(count)} of ${whole(values.length)} saw fewer than ${whole(wanted)} (underlined), ${
      whole(
          values.filter(value => value === 0).length)} of them none. More text, or --experts top-up, gives them more.`;
}

/* --- the table of all layers -------------------------------------------------------------------------------------- */

function moduleWords(layer) {
  return layer.expert == null ? layer.module : layer.module.replace("*", layer.expert);
}
function flagWords(layer) {
  return FLAGS.filter(([bit]) => layer.flags & bit).map(([, name]) => name).join(", ");
}

function tableSection(run) {
  const columns = [
    {title: "block", value: layer => layer.block},
    {title: "module", left: true, value: moduleWords},
    {
      title: "shape",
      hint: "outputs × inputs",
      value: layer => layer.out * layer.in,
      text: layer => `${layer.out} × ${layer.in}`
    },
    {title: "bits", value: layer => layer.bits},
    {title: "group", hint: "weights that share a scale", value: layer => layer.group_size},
    {title: "error", value: layer => layer.error, text: layer => small(layer.error)},
    {
      title: "rounding",
      hint: "error of plain rounding",
      value: layer => layer.error_rtn,
      text: layer => small(layer.error_rtn)
    },
    {
      title: "ratio",
      hint: "error relative to rounding's",
      value: layer => layer.ratio,
      text: layer => fixed(layer.ratio, 3),
      flag: layer => layer.flags & 16
    },
    {
      title: "damping",
      value: layer => layer.damping,
      text: layer => digits(layer.damping, 2),
      flag: layer => layer.flags & 3
    },
    {title: "dead inputs", value: layer => layer.dead_inputs, flag: layer => layer.dead_inputs > 0},
    {title: "limited scales", value: layer => layer.limited_scales, flag: layer => layer.limited_scales > 0},
    {
      title: "tokens",
      value: layer => layer.tokens,
      text: layer => whole(layer.tokens),
      flag: layer => layer.flags & STARVED
    },
    {title: "warnings", left: true, value: flagWords, flag: layer => layer.flags},
  ];
  return section(
      "layers", "All layers" + (runs.length > 1 ? `: ${run.name}` : ""),
      "Sort by a column's head; filter by words of the name.",
      sortableTable("All layers", run.layers, columns, layer => layer.name + " " + flagWords(layer), 5));
}
