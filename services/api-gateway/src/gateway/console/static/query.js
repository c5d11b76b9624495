// The playground: a form or JSON becomes the body of POST /v1/query.
import { call } from "./api.js";
import { copy } from "./console.js";

const form = document.querySelector("[data-query]");
const datasets = JSON.parse(document.querySelector("#datasets")?.textContent ?? "[]");
let current = "form";
const WORDS = { eq: "is", ne: "is not", in: "is one of", nin: "is none of", gt: ">", gte: "≥", lt: "<", lte: "≤", prefix: "begins with", contains: "contains", is_null: "is empty" };

function begin() {
  const { dataset } = form.elements;
  dataset.addEventListener("change", fill);
  fill();
  form.querySelector("[data-add-filter]").addEventListener("click", addFilter);
  for (const button of form.querySelectorAll("[data-mode]")) button.addEventListener("click", () => mode(button.dataset.mode));
  for (const button of form.querySelectorAll("[data-copy]")) button.addEventListener("click", () => guarded(() => copy(written(button.dataset.copy, body()))));
  form.querySelector("[data-quote]")?.addEventListener("click", (event) => busy(event.target, quote));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("button.main");
    if (button) busy(button, run);
  });
}

const chosen = () => datasets.find((one) => one.name === form.elements.dataset.value) ?? datasets[0];

function option(value, words = value) {
  return new Option(words, value);
}

function fill() {
  const columns = chosen()?.columns ?? [];
  form.elements.select.replaceChildren(...columns.map((one) => option(one.name)));
  const orders = columns.filter((one) => one.sortable).flatMap((one) => [option(`${one.name} ASC`, `${one.name}, rising`), option(`${one.name} DESC`, `${one.name}, falling`)]);
  form.elements.sort.replaceChildren(option("", "as it comes"), ...orders);
  form.querySelector("[data-filters]").replaceChildren();
}

function addFilter() {
  const row = document.createElement("div");
  row.className = "filters";
  const column = labelled("Column", document.createElement("select"));
  const operator = labelled("Operator", document.createElement("select"));
  const value = labelled("Value", document.createElement("input"));
  const remove = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Remove" });
  remove.addEventListener("click", () => row.remove());
  column.field.append(...chosen().columns.filter((one) => one.operators.length).map((one) => option(one.name)));
  const offer = () => {
    const known = chosen().columns.find((one) => one.name === column.field.value);
    operator.field.replaceChildren(...known.operators.map((one) => option(one, WORDS[one] ?? one)));
  };
  column.field.addEventListener("change", offer);
  offer();
  row.append(column.label, operator.label, value.label, remove);
  row.read = () => [column.field.value, operator.field.value, value.field.value];
  form.querySelector("[data-filters]").append(row);
  column.field.focus();
}

function labelled(words, field) {
  const label = document.createElement("label");
  label.append(words, field);
  field.ariaLabel = words; // a list's own name would go on with all of its choices
  return { label, field };
}

function fromForm() {
  const { dataset, limit, sort, select } = form.elements;
  const asked = { dataset: dataset.value };
  const filters = {};
  for (const row of form.querySelectorAll("[data-filters] > .filters")) {
    const [column, operator, typed] = row.read();
    (filters[column] ??= {})[operator] = valueOf(column, operator, typed);
  }
  if (Object.keys(filters).length) asked.filters = filters;
  const columns = [...select.selectedOptions].map((one) => one.value);
  if (columns.length) asked.select = columns;
  if (sort.value) asked.sort = sort.value;
  asked.limit = Number(limit.value);
  return asked;
}

function valueOf(column, operator, typed) {
  if (operator === "is_null") return typed !== "false" && typed !== "no";
  const type = chosen().columns.find((one) => one.name === column).type;
  const numeric = /int|float|number|decimal/.test(type);
  const one = (text) => (numeric && text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : type === "boolean" ? text === "true" : text.trim());
  return operator === "in" || operator === "nin" ? typed.split(",").map(one) : one(typed);
}

function mode(wanted) {
  const text = form.elements.json;
  if (wanted === "json" && current === "form") text.value = JSON.stringify(fromForm(), null, 2);
  current = wanted;
  form.querySelector("[data-form]").hidden = wanted === "json";
  form.querySelector("[data-json]").hidden = wanted === "form";
  for (const one of form.querySelectorAll("[data-mode]")) one.setAttribute("aria-pressed", String(one.dataset.mode === wanted));
}

function body() {
  if (current === "form") return fromForm();
  try {
    return JSON.parse(form.elements.json.value);
  } catch (wrong) {
    throw new Error(`This is not JSON: ${wrong.message}`);
  }
}

async function busy(button, act) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  await guarded(act);
  button.disabled = false;
  button.removeAttribute("aria-busy");
}

async function guarded(act) {
  const fault = form.querySelector(".fault");
  fault.hidden = true;
  try {
    await act();
  } catch (refusal) {
    fault.textContent = refusal.message;
    fault.hidden = false;
  }
}

// What was promised for which query: running exactly that one holds the gateway to it.
let promise = { asked: "", quoteId: null };

async function quote() {
  const asked = body();
  const quoted = await call("POST", "/v1/query/quote", asked);
  promise = { asked: JSON.stringify(asked), quoteId: quoted.quote_id };
  const least = quoted.credits_min === quoted.credits_max ? "" : `${quoted.credits_min} to `;
  form.querySelector("[data-quoted]").textContent =
    `costs ${least}${quoted.credits_max} ${quoted.credits_max === 1 ? "credit" : "credits"}, at most ${quoted.rows_estimate.toLocaleString("en")} rows`;
}

async function run() {
  const started = performance.now();
  const asked = body();
  if (promise.quoteId && promise.asked === JSON.stringify(asked)) asked.quote_id = promise.quoteId;
  promise = { asked: "", quoteId: null };
  form.querySelector("[data-quoted]").textContent = "";
  const answer = await call("POST", "/v1/query", asked);
  const told = answer.metadata;
  const figures = [
    ["Rows", `${told.returned} of ${told.total_records ?? "–"}`],
    ["Price", told.credits_used === 1 ? "1 credit" : `${told.credits_used} credits`],
    ["Left", told.credits_remaining],
    ["On the server", `${told.response_time} ms${told.cached ? ", kept answer" : ""}`],
    ["In the browser", `${Math.round(performance.now() - started)} ms`],
  ];
  document.querySelector("[data-figures]").replaceChildren(...figures.map(tile));
  document.querySelector("[data-rows]").replaceChildren(table(answer.data));
  document.querySelector("[data-answer]").hidden = false;
}

function tile([words, value]) {
  const one = document.createElement("div");
  one.className = "tile";
  one.append(Object.assign(document.createElement("dt"), { textContent: words }), Object.assign(document.createElement("dd"), { textContent: value }));
  return one;
}

function table(rows) {
  if (!rows.length) return Object.assign(document.createElement("p"), { className: "empty", textContent: "No row fits. Loosen a filter and run again." });
  const names = Object.keys(rows[0]);
  const shown = document.createElement("table");
  const head = shown.createTHead().insertRow();
  for (const name of names) head.append(Object.assign(document.createElement("th"), { textContent: name, className: typeof rows[0][name] === "number" ? "n" : "" }));
  const bodyRows = shown.createTBody();
  for (const row of rows) {
    const line = bodyRows.insertRow();
    for (const name of names) {
      const value = row[name];
      const cell = line.insertCell();
      cell.textContent = value === null ? "" : typeof value === "object" ? JSON.stringify(value) : value;
      if (typeof value === "number") cell.className = "n";
    }
  }
  return shown;
}

function written(language, asked) {
  const address = `${location.origin}/v1/query`;
  if (language === "curl") {
    const quoted = JSON.stringify(asked).replaceAll("'", "'\\''");
    return `curl -s ${address} -H "x-api-key: $BIGDATA_API_KEY" -H "content-type: application/json" -d '${quoted}'`;
  }
  return [
    "import os",
    "",
    "from bigdata_client import Client",
    "",
    `with Client(${JSON.stringify(location.origin)}, os.environ["BIGDATA_API_KEY"]) as client:`,
    `    result = client.query(${python(asked)})`,
    "    for row in result:",
    "        print(row)",
    '    print(result.metadata.credits_used, "credits used,", result.metadata.credits_remaining, "left")',
    "",
  ].join("\n");
}

function python(value) {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

if (form) begin();
