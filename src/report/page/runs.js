/* --- sections about whole runs ------------------------------------------------------------------------------------ */

function perplexityOf(run) {
  return run.after.length ? run.after[0].perplexity : null;
}
function beforeOf(run) {
  return run.before.length ? run.before[0].perplexity : null;
}
function meanError(run) {
  return mean(run.done.map(layer => layer.error));
}
function gain(run) {
  const rounding = mean(run.done.map(layer => layer.error_rtn));
  return rounding > 0 ? meanError(run) / rounding : null;
}
function worstLayer(run) {
  return run.done.reduce((worst, layer) => !worst || layer.error > worst.error ? layer : worst, null);
}
function groupWords(run) {
  const sizes = [...new Set(run.layers.map(layer => layer.group_size))];
  return sizes.length === 1 ? `groups of ${sizes[0]}` : "groups of " + sizes.sort((a, b) => a - b).join(", ");
}
function bitWords(run) {
  return [...new Set(run.layers.map(layer => layer.bits))].sort().join(", ") + " bits";
}

function card(label, value, note) {
  return el(
      "div", {}, el("div", {class: "label"}, label), el("div", {class: "value"}, value),
      note ? el("div", {class: "note"}, note) : null);
}

function summaryCards(run) {
  const cards = [], {count} = warningsOf(run), trace = run.trace;
  const perplexity = perplexityOf(run), before = beforeOf(run), kl = run.after.length ? run.after[0].kl : null;
  cards.push(card("Warnings", whole(count), count ? "listed below" : "nothing to look after"));
  if (isNumber(perplexity))
    cards.push(card(
        "Perplexity", fixed(perplexity, 2),
        isNumber(before) ? `${fixed(before, 2)} before, +${percent(perplexity / before - 1)}` :
                           "on " + (baseName(run.after[0].tokens_file) || "the given text")));
  if (isNumber(kl))
    cards.push(card(
        "KL divergence", digits(kl, 3),
        isNumber(run.after[0].agreement) ? percent(run.after[0].agreement) + " same top token" :
                                           "from " + (baseName(run.after[0].against) || "the original")));
  if (isNumber(run.checkpoint_bytes))
    cards.push(card(
        "Size", size(run.checkpoint_bytes),
        isNumber(run.source_bytes) ?
            `${size(run.source_bytes)} before, ${digits(run.source_bytes / run.checkpoint_bytes, 3)} × smaller` :
            run.kind));
  cards.push(
      card("Bits per weight", fixed(run.bits, 2), `${whole(run.weights / 1e6)} million weights, scales counted`));
  cards.push(card(
      "Layer error", small(meanError(run)),
      run.isRounding ? "mean; plain rounding" : `mean; ${digits(gain(run), 2)} of plain rounding's`));
  cards.push(card(
      "Layers",
      run.done.length === run.layers.length ? whole(run.layers.length) :
                                              `${whole(run.done.length)} of ${whole(run.layers.length)}`,
      `${run.modules.length} kinds in ${run.blocks.length} blocks`));
  if (trace)
    cards.push(card(
        "Time", duration(trace.seconds),
        `${counted(trace.ranks.length + trace.others.length, "rank")} of ${
            counted(trace.ranks[0].threads, "thread")}`));
  if (trace)
    cards.push(
        card("Memory", size(Math.max(...trace.ranks.map(rank => rank.peak_bytes))), "the most that a rank held"));
  const columns = cards.length <= 8 ? cards.length : Math.ceil(cards.length / 2);
  return el("div", {class: "cards", style: `--columns:${columns}`}, cards);
}

/* --- settings ----------------------------------------------------------------------------------------------------- */

function show(value) {
  return value == null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function settingSection(run) {
  const settings = Object.entries(run.config).map(([key, value]) => [key, show(value)]);
  const prints =
      Object.entries(run.fingerprint).filter(([key]) => !(key in run.config)).map(([key, value]) => [key, show(value)]);
  const table = (title, rows) =>
      el("div", {}, el("h3", {}, title),
         el("table", {},
            el("tbody", {},
               rows.map(
                   ([key, value]) =>
                       el("tr", {}, el("th", {scope: "row"}, key), el("td", {class: "wrap mono"}, value))))));
  const model =
      [
        "architecture", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
        "num_key_value_heads", "vocab_size", "torch_dtype"
      ].filter(key => key in run.model)
          .map(key => [key, show(run.model[key])]);
  return section(
      "settings", "Settings" + (runs.length > 1 ? `: ${run.name}` : ""),
      run.kind === "checkpoint" ?
          "The folder's shardq.json holds them; shardq quantize --config FOLDER/shardq.json makes the same bytes again." :
          null,
      el("div", {class: "panels wide"}, table("Configuration", settings),
         el("div", {}, model.length ? table("Model", model) : null, table("What else decides the bytes", prints),
            table("Versions", run.versions.map(line => [line.split(" ")[0], line.split(" ").slice(1).join(" ")])))));
}

/* --- the calibration sample --------------------------------------------------------------------------------------- */

function sourcesOf(tokens) {
  try {
    return JSON.parse(tokens.provenance.sources || "[]");
  } catch (error) {
    return [];
  }
}

/* records: how many texts of 2^i to 2^(i+1) - 1 characters a source has. */
function lengthPanel(source) {
  if (!source.record_lengths) return null;
  const first = source.record_lengths.findIndex(count => count > 0),
        counts = source.record_lengths.slice(Math.max(0, first));
  const from = i => 2 ** (Math.max(0, first) + i);
  return el(
      "div", {}, el("h3", {}, `${baseName(source.file)}: length of its ${whole(sum(counts))} texts`),
      histogram(
          `Number of texts by length, ${source.file}`, counts, null,
          i => `${whole(from(i))} to ${whole(2 * from(i) - 1)} characters`,
          [[0, whole(from(0)) + " characters"], [1, whole(2 * from(counts.length - 1) - 1)]], 90));
}

function sharePanel(tokens) {
  const points = tokens.curve, most = points[points.length - 1][0],
        at = share => (points.find(p => p[1] >= share) || points[points.length - 1])[0];
  const draw = width => {
    const left = 34, right = width - 8, bottom = 104, top = 6, x = logarithmic(1, Math.max(most, 2), left, right),
          y = linear(0, 1, bottom, top);
    const picture = canvas(width, 122);
    for (const share of [0, .5, 1])
      picture.append(
          svg("line", {class: "gridline", x1: left, x2: right, y1: y(share), y2: y(share)}),
          svg("text", {x: left - 5, y: y(share) + 4, "text-anchor": "end"}, 100 * share + " %"));
    for (const tick of powersOfTen(1, most))
      picture.append(svg("text", {x: x(tick), y: 118, "text-anchor": "middle"}, whole(tick)));
    picture.append(svg(
        "path", {d: path(points.map(p => [x(p[0]), y(p[1])])), fill: "none", stroke: "var(--c0)", "stroke-width": 2}));
    for (const p of points)
      picture.append(svg("circle", {
        cx: x(p[0]),
        cy: y(p[1]),
        r: 5,
        fill: "transparent",
        "data-tip": `the ${whole(p[0])} most frequent make ${percent(p[1])}`
      }));
    return picture;
  };
  return el(
      "div", {}, el("h3", {}, "Share of the sample that the most frequent tokens make"),
      chart("Share of the sample by number of most frequent tokens", draw),
      el("p", {class: "soft"},
         `About ${whole(at(.5))} make half of it, ${whole(at(.9))} nine tenths; ${whole(tokens.once)} occur once.`));
}

function calibrationSection(run) {
  const tokens = run.calibration;
  if (!tokens)
    return section(
        "calibration", "Calibration", null,
        el("p", {},
           "The token file of this run is not at its place any more; give it behind the run to show what it is made of."));
  const sources = sourcesOf(tokens), about = tokens.provenance,
        vocabulary = Number(about.tokenizer_vocabulary || run.model.vocab_size);
  const rows =
      sources.map((source, i) => ({
                    name: baseName(source.file),
                    text: percent(source.samples / tokens.samples, 0),
                    parts: [{
                      value: source.samples,
                      color: `var(--c${i % 6})`,
                      tip: `${source.file}\n${source.samples} samples of ${whole(source.tokens)} tokens of text`
                    }]
                  }));
  return section(
      "calibration", "Calibration",
      "What the layers were fitted to. A sample that resembles the texts the model will meet, from several sources, " +
          "matters more than most settings.",
      el("p", {},
         `${whole(tokens.samples)} samples of ${whole(tokens.length)} tokens (${
             whole(tokens.samples * tokens.length)})` +
             (about.method ? `, ${about.method}, seed ${about.seed}` : "") +
             `. ${whole(tokens.distinct)} different tokens` +
             (vocabulary ? `, ${percent(tokens.distinct / vocabulary)} of the vocabulary of ${whole(vocabulary)}.` :
                           ".")),
      el("div", {class: "panels wide"},
         el("div", {}, el("h3", {}, "Sources"),
            rows.length ? bars("Samples by source", rows, tokens.samples) :
                          el("p", {}, "The token file does not say where it comes from.")),
         sharePanel(tokens), ...sources.map(lengthPanel)));
}

/* --- several runs side by side ------------------------------------------------------------------------------------ */

function differing() {
  const keys = [...new Set(runs.flatMap(run => Object.keys(run.config)))];
  return keys.filter(key => new Set(runs.map(run => show(run.config[key]))).size > 1);
}

/* Evaluations of the same text stand in one row. */
function textsOf() {
  return [...new Set(runs.flatMap(run => run.after.map(evaluation => baseName(evaluation.tokens_file))))];
}
function evaluationOn(run, text) {
  return run.after.find(evaluation => baseName(evaluation.tokens_file) === text);
}

function bestOf(values) {
  const numbers = values.filter(isNumber);
  return numbers.length > 1 && new Set(numbers).size > 1 ? Math.min(...numbers) : null;
}
function figureRow(name, values, format) {
  const best = bestOf(values);
  return [name, ...values.map(value => value === best ? el("span", {class: "best"}, format(value)) : format(value))];
}

function comparisonSection() {
  const head = ["", ...runs.map(run => el("span", {style: `color:${run.color}`}, run.name))];
  const settings = differing().map(
      key =>
          [key,
           ...runs.map(
               run => key === "tokens" || key === "model" ? baseName(run.config[key]) : show(run.config[key]))]);
  const figures = [];
  for (const text of textsOf()) {
    const of = key => runs.map(run => (evaluationOn(run, text) || {})[key]),
          on = text ? ` on ${text.replace(/\.h5$/, "")}` : "";
    figures.push(figureRow("perplexity" + on, of("perplexity"), value => fixed(value, 2)));
    if (of("kl").some(isNumber)) figures.push(figureRow("KL divergence" + on, of("kl"), value => digits(value, 3)));
    if (of("agreement").some(isNumber))
      figures.push(["same top token" + on, ...of("agreement").map(value => percent(value))]);
  }
  figures.push(figureRow("size", runs.map(run => run.checkpoint_bytes), size));
  figures.push(figureRow("bits per weight", runs.map(run => run.bits), value => fixed(value, 3)));
  figures.push(figureRow("mean layer error", runs.map(meanError), small));
  figures.push(figureRow("largest layer error", runs.map(run => (worstLayer(run) || {}).error), small));
  figures.push(["mean error, of rounding's", ...runs.map(run => digits(gain(run), 2))]);
  figures.push(figureRow("layers with warnings", runs.map(run => run.flagged.length), String));
  if (runs.some(run => run.trace))
    figures.push(figureRow("time", runs.map(run => run.trace ? run.trace.seconds : null), duration));
  return section(
      "comparison", "Side by side", "Settings that differ, and what came of them; the best of a row is green and bold.",
      plainTable([head, ...settings, ...figures], {class: "compare"}), tradeSection());
}

/* Perplexity over size: down and left is better. */
function tradeSection() {
  const text = textsOf()[0],
        points = runs.map(run => [run, run.checkpoint_bytes, (evaluationOn(run, text) || {}).perplexity])
                     .filter(p => isNumber(p[1]) && isNumber(p[2]));
  if (points.length < 2) return null;
  const before = beforeOf(points[0][0]), xs = points.map(p => p[1]), ys = points.map(p => p[2]);
  const pad = (Math.max(...xs) - Math.min(...xs)) * .15 || Math.max(...xs) * .05, high = Math.max(...ys) * 1.06,
        low = Math.min(...ys, isNumber(before) ? before : Infinity) * .97;
  const draw = width => {
    const left = 46, right = width - 10, top = 8, bottom = 210,
          x = linear(Math.min(...xs) - pad, Math.max(...xs) + pad, left, right),
          y = logarithmic(low, high, bottom, top);
    const picture = canvas(width, 240);
    for (let i = 0; i <= 4; i++) {
      const value = low * (high / low) ** (i / 4);
      picture.append(
          svg("line", {class: "gridline", x1: left, x2: right, y1: y(value), y2: y(value)}),
          svg("text", {x: left - 5, y: y(value) + 4, "text-anchor": "end"}, digits(value, 3)));
    }
    for (const value of [Math.min(...xs), Math.max(...xs)])
      picture.append(svg("text", {x: x(value), y: 226, "text-anchor": "middle"}, size(value)));
    if (isNumber(before))
      picture.append(
          svg("line",
              {x1: left, x2: right, y1: y(before), y2: y(before), stroke: "var(--good)", "stroke-dasharray": "5 4"}),
          svg("text", {class: "strong", x: right, y: y(before) - 5, "text-anchor": "end"},
              `unquantized: ${fixed(before, 2)}`));
    for (const [run, bytes, perplexity] of points) {
      const isRight = x(bytes) > width * .6;
      picture.append(
          svg("circle", {
            cx: x(bytes),
            cy: y(perplexity),
            r: 6,
            fill: run.color,
            "data-tip": `${run.name}\n${size(bytes)}, perplexity ${fixed(perplexity, 2)}`
          }),
          svg("text", {
            class: "strong",
            x: x(bytes) + (isRight ? -10 : 10),
            y: y(perplexity) + 4,
            "text-anchor": isRight ? "end" : "start"
          },
              run.name));
    }
    return picture;
  };
  return el(
      "div", {}, el("h3", {}, "Perplexity by size" + (text ? `, on ${text}` : "")),
      chart("Perplexity of each run over the size of its checkpoint", draw));
}
