// The rows that the form is made of: one filter, one group, one figure each.
const OPERATORS = { eq: "is", ne: "is not", in: "is one of", nin: "is none of", gt: ">", gte: "≥", lt: "<", lte: "≤", prefix: "begins with", contains: "contains", is_null: "is empty", similar: "is similar to" };
const SIMILAR = 0.5;
const NUMBERS = ["integer", "float", "decimal"];
const ORDERED = [...NUMBERS, "string", "date", "timestamp"];
const ANY = [...ORDERED, "country", "enum", "boolean"];
// What the gateway computes, of which types of columns; a masked column may be counted and no more.
const FIGURES = {
  count: { words: "count", types: [...ANY, "json"], masked: true },
  uniq: { words: "different values", types: ANY, masked: true },
  sum: { words: "sum", types: NUMBERS },
  avg: { words: "average", types: NUMBERS },
  min: { words: "least", types: ORDERED },
  max: { words: "most", types: ORDERED },
  median: { words: "median", types: ["integer", "float"], level: 0.5 },
  p95: { words: "95th percentile", types: ["integer", "float"], level: 0.95 },
};
const SPANS = ["minute", "hour", "day", "week", "month", "quarter", "year"];

export const option = (value, words = value) => new Option(words, value);
const select = (options) => {
  const one = document.createElement("select");
  one.append(...options);
  return one;
};

export function addRow(place, make, columns, changed, focused = true) {
  const { fields, read } = make(columns);
  const row = document.createElement("div");
  row.className = "filters";
  const remove = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Remove" });
  remove.addEventListener("click", () => {
    row.remove();
    changed();
  });
  row.append(...fields.map(([words, field]) => labelled(words, field)), remove);
  row.addEventListener("change", changed);
  row.read = read;
  place.append(row);
  changed();
  if (focused) fields[0][1].focus();
}

function labelled(words, field) {
  const label = document.createElement("label");
  label.append(words, field);
  field.ariaLabel = words; // a list's own name would go on with all of its choices
  return label;
}

export function filter(columns) {
  const asked = columns.filter((one) => one.operators.length);
  const column = select(asked.map((one) => option(one.name)));
  const operator = select([]);
  const value = document.createElement("input");
  const known = () => asked.find((one) => one.name === column.value);
  const offer = () => operator.replaceChildren(...[...known().operators, ...(known().fuzzy ? ["similar"] : [])].map((one) => option(one, OPERATORS[one] ?? one)));
  column.addEventListener("change", offer);
  offer();
  const read = () =>
    operator.value === "similar"
      ? { column: column.value, fuzzy: { query: value.value, threshold: SIMILAR } }
      : { column: column.value, operator: operator.value, value: valueOf(known().type, operator.value, value.value) };
  return { fields: [["Column", column], ["Operator", operator], ["Value", value]], read };
}

function valueOf(type, operator, typed) {
  if (operator === "is_null") return typed !== "false" && typed !== "no";
  const numeric = NUMBERS.includes(type);
  const one = (text) => (numeric && text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : type === "boolean" ? text === "true" : text.trim());
  return operator === "in" || operator === "nin" ? typed.split(",").map(one) : one(typed);
}

// Moments are grouped by spans of time; grouped by themselves, nearly every one would be alone.
export function group(columns) {
  const asked = columns.filter((one) => !one.masked && ANY.includes(one.type));
  const column = select(asked.map((one) => option(one.name)));
  const span = select([]);
  const offer = () => {
    const { type } = asked.find((one) => one.name === column.value);
    const spans = type === "timestamp" ? SPANS : type === "date" ? SPANS.slice(2) : [];
    span.replaceChildren(...spans.map((one) => option(one)), option("", "each value"));
    if (spans.length) span.value = "day";
    span.disabled = !spans.length;
  };
  column.addEventListener("change", offer);
  offer();
  const read = () => (span.value ? { by: `${span.value}(${column.value})`, name: `${column.value}_${span.value}` } : { by: column.value, name: column.value });
  return { fields: [["Group by", column], ["For each", span]], read };
}

export function metric(columns) {
  const figure = select(Object.entries(FIGURES).map(([name, one]) => option(name, one.words)));
  const column = select([]);
  const name = Object.assign(document.createElement("input"), { maxLength: 63, pattern: "[A-Za-z_][A-Za-z0-9_]*", title: "letters, digits and _" });
  const offer = () => {
    const { types, masked } = FIGURES[figure.value];
    const before = column.value;
    const fitting = columns.filter((one) => types.includes(one.type) && (masked || !one.masked)).map((one) => option(one.name));
    column.replaceChildren(...(figure.value === "count" ? [option("", "rows")] : []), ...fitting);
    if (fitting.some((one) => one.value === before)) column.value = before;
  };
  const own = () => (column.value ? `${figure.value}_${column.value}` : "rows");
  const propose = () => (name.placeholder = own());
  figure.addEventListener("change", offer);
  for (const one of [figure, column]) one.addEventListener("change", propose);
  offer();
  propose();
  const read = () => {
    const { level } = FIGURES[figure.value];
    const call = level === undefined ? `${figure.value}(${column.value})` : `quantile(${column.value}, ${level})`;
    return { name: name.value.trim() || own(), call };
  };
  return { fields: [["Figure", figure], ["Of", column], ["Called", name]], read };
}
