// What came back: its price and timing, and its rows as a table.
export function showAnswer({ metadata: told, data }, metrics, tookMs) {
  const figures = [
    ["Rows", `${told.returned.toLocaleString("en")} of ${told.total_records?.toLocaleString("en") ?? "–"}`],
    ["Price", told.credits_used === 1 ? "1 credit" : `${told.credits_used} credits`],
    ["Left", told.credits_remaining.toLocaleString("en")],
    ["On the server", `${Math.round(told.response_time * 10) / 10} ms`, told.cached ? "a kept answer" : ""],
    ["In the browser", `${Math.round(tookMs)} ms`],
  ];
  document.querySelector("[data-figures]").replaceChildren(...figures.map(tile));
  document.querySelector("[data-rows]").replaceChildren(data.length ? table(data, metrics) : nothing());
  document.querySelector("[data-answer]").hidden = false;
}

const element = (tag, words, className = "") => Object.assign(document.createElement(tag), { textContent: words, className });

const nothing = () => element("p", "No row fits. Loosen a filter and run again.", "empty");

function tile([words, value, note]) {
  const one = element("div", "", "tile");
  one.append(element("dt", words), element("dd", value), ...(note ? [element("dd", note, "note")] : []));
  return one;
}

// Of an aggregation, the first figure is drawn behind its numbers: a table that is a chart as well.
function table(rows, metrics) {
  const names = Object.keys(rows[0]);
  const drawn = metrics.find((name) => rows.every((row) => typeof row[name] === "number" && row[name] >= 0));
  const most = Math.max(...rows.map((row) => row[drawn] ?? 0));
  const shown = document.createElement("table");
  const head = shown.createTHead().insertRow();
  for (const name of names) head.append(element("th", name, isNumber(rows, name) ? "n" : ""));
  const body = shown.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const name of names) {
      const written = metrics.includes(name) && typeof row[name] === "number" ? row[name].toLocaleString("en", { maximumFractionDigits: 3 }) : row[name];
      line.append(cell(row[name], written, name === drawn && most && rows.length > 1 ? row[name] / most : null));
    }
  }
  return shown;
}

const isNumber = (rows, name) => rows.some((row) => typeof row[name] === "number");

function cell(value, written, share) {
  const one = element("td", value === null ? "" : typeof value === "object" ? JSON.stringify(value) : written);
  if (typeof value === "number") one.className = "n";
  if (share !== null) {
    one.classList.add("drawn");
    one.style.setProperty("--share", `${(share * 100).toFixed(1)}%`);
  }
  return one;
}
