/* --- the page ----------------------------------------------------------------------------------------------------- */

runs.forEach(unpack);
const main = document.getElementById("main"), parts = el("div", {id: "parts"});

function title() {
  const run = runs[0], architecture = run.model.architecture ? ` (${run.model.architecture})` : "";
  const model = baseName(run.config.model || run.path);
  return runs.length > 1 ? `${model}: ${runs.length} runs compared` : `${model}${architecture}, ${bitWords(run)}`;
}

function subtitle(run) {
  return `${run.name}: ${run.isRounding ? "plain rounding" : "GPTQ"}, ${bitWords(run)}, ${groupWords(run)}, ${
      run.layers.every(layer => layer.symmetric) ? "symmetric" : "asymmetric"}`;
}

/* What is shown of the chosen run. */
function sectionsOf(run) {
  return [
    warningSection(run), summaryCards(run), heatSection(run), runs.length > 1 ? null : lineSection([run]),
    weightSection(run), dampingSection(run), expertSection(run), calibrationSection(run), timeSection(run),
    tableSection(run), settingSection(run)
  ].filter(Boolean);
}

const NAMES = {
  comparison: "Side by side",
  warnings: "Warnings",
  map: "Map",
  lines: "Along the model",
  weights: "Weights",
  damping: "Damping",
  experts: "Experts",
  calibration: "Calibration",
  time: "Time",
  layers: "All layers",
  settings: "Settings"
};

function choose(run) {
  drawn.splice(0, drawn.length, ...drawn.filter(item => main.contains(item.box) && !parts.contains(item.box)));
  parts.replaceChildren(...sectionsOf(run));
  drawAll();
}

function chooser() {
  const select =
      el("select", {id: "chosen", onchange: event => choose(runs[Number(event.target.value)])},
         runs.map((run, i) => el("option", {value: i}, run.name)));
  return el("p", {class: "controls"}, el("label", { for: "chosen"
            }, "In detail: "), select);
}

function navigation() {
  const found = [...document.querySelectorAll("section[id]")].map(box => box.id).filter(id => NAMES[id]);
  return el("nav", {"aria-label": "Sections"}, found.map(id => el("a", {href: "#" + id}, NAMES[id])));
}

document.title = title() + " – shardq";
const head = document.getElementById("head");
head.append(
    el("h1", {}, title()),
    el("p", {class: "soft"},
       runs.length > 1 ? runs.map(subtitle).map(text => el("span", {style: "display:block"}, text)) :
                         subtitle(runs[0])));
main.replaceChildren(...(runs.length > 1 ? [comparisonSection(), lineSection(runs), chooser()] : []), parts);
choose(runs[0]);
head.append(navigation());
document.getElementById("foot").append(
    el("p", {}, `Written by ${data.program}. This file needs no network; its numbers are in it as JSON.`));
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 80);
});
document.documentElement.setAttribute("data-ready", "yes");
