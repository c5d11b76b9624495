// The form of a query: what a dataset offers, and the body that was composed of it.
import { addRow, group, metric, filter, option } from "./query_rows.js";

let datasets = [];
let asked = "rows";

const chosen = (form) => datasets.find((one) => one.name === form.elements.dataset.value) ?? datasets[0];
const rowsOf = (form, place) => [...form.querySelectorAll(`[data-${place}] > .filters`)].map((row) => row.read());

export function beginForm(form, known) {
  datasets = known;
  const adding = { group, metric, filter };
  for (const [kind, make] of Object.entries(adding))
    form.querySelector(`[data-add-${kind}]`).addEventListener("click", () => addRow(form.querySelector(`[data-${kind}s]`), make, columnsOf(form), () => offerOrders(form)));
  for (const button of form.querySelectorAll("[data-asked]")) button.addEventListener("click", () => ask(form, button.dataset.asked));
  form.elements.dataset.addEventListener("change", () => fill(form));
  fill(form);
}

const columnsOf = (form) => chosen(form)?.columns ?? [];

function fill(form) {
  for (const place of ["groups", "metrics", "filters"]) form.querySelector(`[data-${place}]`).replaceChildren();
  form.querySelector("[data-columns]").replaceChildren(...columnsOf(form).map(chip));
  ask(form, asked);
}

function chip(column) {
  const label = document.createElement("label");
  label.className = "chip";
  label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: column.name }), column.name);
  return label;
}

// Rows as they are, or figures of groups of them.
function ask(form, wanted) {
  asked = wanted;
  for (const part of form.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== wanted;
  for (const one of form.querySelectorAll("[data-asked]")) one.setAttribute("aria-pressed", String(one.dataset.asked === wanted));
  const metrics = form.querySelector("[data-metrics]");
  if (wanted === "figures" && !metrics.childElementCount) addRow(metrics, metric, columnsOf(form), () => offerOrders(form), false);
  offerOrders(form);
}

// By what the answer will hold.
function offerOrders(form) {
  const { sort } = form.elements;
  const before = sort.value;
  const names = asked === "rows" ? columnsOf(form).filter((one) => one.sortable).map((one) => one.name) : answerNames(form);
  const orders = names.flatMap((one) => [option(`${one} ASC`, `${one}, rising`), option(`${one} DESC`, `${one}, falling`)]);
  sort.replaceChildren(option("", asked === "rows" ? "as it comes" : "by group"), ...orders);
  sort.value = orders.some((one) => one.value === before) ? before : "";
}

const answerNames = (form) => [...rowsOf(form, "groups").map((one) => one.name), ...rowsOf(form, "metrics").map((one) => one.name)];

export function fromForm(form) {
  const { dataset, limit, sort } = form.elements;
  const body = { dataset: dataset.value };
  const filters = rowsOf(form, "filters");
  const exact = filters.filter((one) => !one.fuzzy);
  if (exact.length) body.filters = {};
  for (const { column, operator, value } of exact) (body.filters[column] ??= {})[operator] = value;
  for (const { column, fuzzy } of filters.filter((one) => one.fuzzy)) (body.fuzzy ??= {})[column] = fuzzy;
  if (asked === "figures") body.aggregate = aggregate(form);
  else {
    const columns = [...form.querySelectorAll("[data-columns] :checked")].map((one) => one.value);
    if (columns.length) body.select = columns;
  }
  if (sort.value) body.sort = sort.value;
  body.limit = Number(limit.value);
  return body;
}

function aggregate(form) {
  const groups = rowsOf(form, "groups").map((one) => one.by);
  const metrics = Object.fromEntries(rowsOf(form, "metrics").map((one) => [one.name, one.call]));
  return groups.length ? { group_by: groups, metrics } : { metrics };
}
