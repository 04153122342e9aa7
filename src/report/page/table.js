/* --- a table that sorts and filters ------------------------------------------------------------------------------- */

const FIRST_ROWS = 40, MORE_ROWS = 1000; /* all of 50,000 at once would be slow */

/* columns: [{title, hint, value(item), text(item), left, flag(item)}]; words(item): what the filter searches. */
function sortableTable(caption, items, columns, words, startColumn) {
  const state = {column: startColumn, descending: true, filter: "", flagged: false, rows: FIRST_ROWS};
  const body = el("tbody"), count = el("span", {class: "soft", role: "status"});
  const heads = columns.map(
      (column, i) =>
          el("th", {class: column.left ? "left" : "", scope: "col", title: column.hint},
             el("button", {type: "button", onclick: () => sortBy(i)}, column.title)));
  const more =
      el("button", {
        type: "button",
        onclick: () => {
          state.rows += MORE_ROWS;
          fill();
        }
      },
         "Show more");

  function sortBy(i) {
    state.descending = state.column === i ? !state.descending : !columns[i].left;
    state.column = i;
    fill();
  }
  function compare(a, b) {
    const x = columns[state.column].value(a), y = columns[state.column].value(b);
    if (x == null || y == null) return (x == null) - (y == null);
    const order = typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y;
    return state.descending ? -order : order;
  }
  function chosen() {
    const wanted = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    return items.filter(
        item => (!state.flagged || item.flags) && wanted.every(word => words(item).toLowerCase().includes(word)));
  }
  function row(item) {
    return el("tr", {}, columns.map(column => {
      const text = column.text ? column.text(item) : String(column.value(item) ?? "–");
      return el(
          "td",
          {class: [column.left ? "left" : "", column.flag && column.flag(item) ? "flag" : ""].join(" ").trim() || null},
          text);
    }));
  }
  function fill() {
    const found = chosen().sort(compare), shown = found.slice(0, state.rows);
    heads.forEach(
        (head, i) => head.setAttribute(
            "aria-sort",
            i !== state.column   ? "none" :
                state.descending ? "descending" :
                                   "ascending"));
    body.replaceChildren(...shown.map(row));
    count.textContent = `${whole(shown.length)} of ${whole(items.length)} layers` +
        (found.length < items.length ? `; ${whole(found.length)} match` : "");
    more.hidden = found.length === shown.length;
  }
  const search = el("input", {
    type: "search",
    placeholder: "Filter, such as: v_proj 12",
    "aria-label": "Filter layers by words of their names",
    oninput: event => {
      state.filter = event.target.value;
      fill();
    }
  });
  const flagged = el("input", {
    type: "checkbox",
    onchange: event => {
      state.flagged = event.target.checked;
      fill();
    }
  });
  fill();
  return el(
      "div", {}, el("div", {class: "controls"}, search, el("label", {}, flagged, " only with warnings"), count),
      el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
         el("table", {class: "layers"}, el("thead", {}, el("tr", {}, heads)), body)),
      el("div", {class: "controls"}, more));
}

/* rows of cells; the first row is the head. */
function plainTable(rows, attributes) {
  const [head, ...rest] = rows;
  return el(
      "div", {class: "scroll"},
      el("table", attributes, el("thead", {}, el("tr", {}, head.map(cell => el("th", {scope: "col"}, cell)))),
         el("tbody", {},
            rest.map(
                row => el("tr", {}, row.map((cell, i) => i ? el("td", {}, cell) : el("th", {scope: "row"}, cell)))))));
}
