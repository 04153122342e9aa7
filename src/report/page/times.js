/* --- where the time went ------------------------------------------------------------------------------------------ */

const STAGE_ORDER = ["read", "forward", "hessian", "factor", "solve", "gather", "store", "assemble"];
function stageColor(name) {
  const at = STAGE_ORDER.indexOf(name);
  return `var(--s${at < 0 ? 0 : at})`;
}
function sumsOf(rank, kind) {
  return rank.sums.filter(entry => entry.kind === kind);
}

/* One strip per rank: in each slice of time the shares of the stages, stacked. */
function timeline(trace) {
  return chart("Shares of the stages over time, one strip for each rank", width => {
    const left = 52, h = 46, slices = trace.ranks[0].shares[0].length, w = (width - left) / slices,
          bottom = h * trace.ranks.length;
    const picture = canvas(width, bottom + 20);
    trace.ranks.forEach((rank, r) => {
      picture.append(svg("text", {class: "strong", x: 0, y: h * r + 26}, "rank " + rank.rank));
      picture.append(svg("rect", {x: left, y: h * r + 2, width: width - left, height: h - 6, fill: "var(--grid)"}));
      const filled = new Array(slices).fill(0);
      trace.stages.forEach((name, s) => {
        let d = "";
        rank.shares[s].forEach((share, i) => {
          if (!share) return;
          const height = share / 100 * (h - 6), y = h * (r + 1) - 4 - filled[i] - height;
          filled[i] += height;
          d += `M${(left + w * i).toFixed(2)} ${y.toFixed(2)}h${(w + .3).toFixed(2)}v${height.toFixed(2)}h${
              (-w - .3).toFixed(2)}z`;
        });
        picture.append(svg("path", {d, fill: stageColor(name), "data-tip": `rank ${rank.rank}: ${name}`}));
      });
    });
    for (const tick of niceTicks(trace.seconds, Math.max(3, width / 130))) {
      const x = left + (width - left) * tick / trace.seconds;
      if (x < width - 12)
        picture.append(svg("text", {x, y: bottom + 15, "text-anchor": tick ? "middle" : "start"}, duration(tick)));
    }
    return picture;
  });
}

/* All spans of one block: per rank a row of stages and a row of collectives. */
function blockDetail(trace) {
  const spans = trace.spans, start = Math.min(...spans.map(span => span[3])),
        end = Math.max(...spans.map(span => span[3] + span[4]));
  const ranks = [...new Set(spans.map(span => span[0]))].sort((a, b) => a - b).slice(0, 8);
  return chart(`Stages and collectives of block ${trace.block}, rank by rank`, width => {
    const left = 52, h = 40, x = linear(start, end, left, width), bottom = h * ranks.length,
          picture = canvas(width, bottom + 20);
    ranks.forEach((rank, r) => picture.append(svg("text", {class: "strong", x: 0, y: h * r + 18}, "rank " + rank)));
    for (const [rank, track, name, from, seconds, bytes] of spans) {
      const r = ranks.indexOf(rank);
      if (r < 0) continue;
      picture.append(svg("rect", {
        x: x(from),
        y: h * r + (track ? 23 : 2),
        width: Math.max(.6, x(from + seconds) - x(from)),
        height: track ? 11 : 19,
        fill: track ? "var(--rounding)" : stageColor(name),
        "data-tip":
            `rank ${rank}: ${name}\n${(1e3 * seconds).toFixed(2)} ms` + (bytes ? `, ${size(bytes)} between ranks` : "")
      }));
    }
    for (const tick of niceTicks(end - start, Math.max(3, width / 130)))
      if (x(start + tick) < width - 12)
        picture.append(
            svg("text", {x: x(start + tick), y: bottom + 15, "text-anchor": tick ? "middle" : "start"},
                Math.round(1e3 * tick) + " ms"));
    return picture;
  });
}

function rankBars(trace) {
  const rows = trace.ranks.map(rank => {
    const stages = sumsOf(rank, "stages").sort((a, b) => STAGE_ORDER.indexOf(a.name) - STAGE_ORDER.indexOf(b.name));
    const part = entry => ({
      value: entry.seconds,
      color: stageColor(entry.name),
      tip: `rank ${rank.rank}: ${entry.name} ${duration(entry.seconds)}`
    });
    const total = sum(stages.map(entry => entry.seconds));
    return {name: "rank " + rank.rank, text: duration(total), parts: stages.map(part), total};
  });
  return bars("Seconds by stage, rank by rank", rows, largest(rows.map(row => row.total)));
}

function memoryChart(trace) {
  const most = Math.max(...trace.ranks.map(rank => Math.max(rank.peak_bytes, rank.planned_bytes)), 1);
  const rows = trace.ranks.map((rank, i) => ({
                                 name: "rank " + rank.rank,
                                 text: size(rank.peak_bytes),
                                 parts: [{
                                   value: rank.peak_bytes,
                                   color: `var(--c${i % 6})`,
                                   tip: `rank ${rank.rank} on ${rank.host}\nheld at most ${
                                       size(rank.peak_bytes)}, libraries and mapped files counted\n${
                                       size(rank.planned_bytes)} planned for buffers`
                                 }]
                               }));
  return bars("Most memory that each rank held", rows, most);
}

function stageTable(trace) {
  const all = trace.ranks.concat(trace.others),
        names = [...new Set(all.flatMap(rank => sumsOf(rank, "stages").map(entry => entry.name)))].sort(
            (a, b) => STAGE_ORDER.indexOf(a) - STAGE_ORDER.indexOf(b));
  const collectives = [...new Set(all.flatMap(rank => sumsOf(rank, "collectives").map(entry => entry.name)))];
  const seconds = (kind, name) =>
      all.map(rank => (sumsOf(rank, kind).find(entry => entry.name === name) || {seconds: 0, bytes: 0, calls: 0}));
  const rows = (kind, list) => list.map(name => {
    const found = seconds(kind, name);
    return [
      name, fixed(mean(found.map(entry => entry.seconds)), 2), fixed(Math.min(...found.map(entry => entry.seconds)), 2),
      fixed(Math.max(...found.map(entry => entry.seconds)), 2), whole(mean(found.map(entry => entry.calls))),
      size(mean(found.map(entry => entry.bytes)))
    ];
  });
  const head = ["", "seconds, mean", "least", "most", "calls", "bytes a rank"];
  return el(
      "details", {}, el("summary", {}, "Stages and collectives in numbers"),
      plainTable([head, ...rows("stages", names)]),
      el("p", {class: "soft"},
         "Collectives are part of the stages above; a rank that waits for a slower one waits in them."),
      plainTable([head, ...rows("collectives", collectives)]));
}

function timeSection(run) {
  const trace = run.trace;
  if (!trace)
    return section(
        "time", "Time and memory", null,
        el("p", {}, "Where the time went is kept by ", el("code", {}, "shardq quantize --trace FILE.json"),
           "; give that file behind the run."));
  const used = STAGE_ORDER.filter(name => trace.stages.includes(name)), more = trace.others.length;
  return section(
      "time", "Time and memory" + (runs.length > 1 ? `: ${run.name}` : ""),
      "Each strip is a rank; its height at a moment is divided among the stages it was in. " +
          "The whole trace opens in Perfetto (ui.perfetto.dev).",
      legend(used.map(name => [stageColor(name), name])), timeline(trace),
      more ? el("p", {class: "soft"}, `${more} more ranks are in the numbers below, but not drawn.`) : null,
      trace.spans.length ?
          el("div", {}, el("h3", {style: "margin-top:14px"}, `Block ${trace.block} in detail`),
             el("p", {class: "soft"},
                "Above the stages, below (grey) the calls that exchange data between ranks or wait for them."),
             blockDetail(trace),
             trace.left_out ? el("p", {class: "soft"}, `The ${whole(trace.left_out)} shortest spans are left out.`) :
                              null) :
          null,
      el("div", {class: "panels wide", style: "margin-top:14px"},
         el("div", {}, el("h3", {}, "Time by stage"), rankBars(trace)),
         el("div", {}, el("h3", {}, "Memory"), memoryChart(trace))),
      stageTable(trace));
}
