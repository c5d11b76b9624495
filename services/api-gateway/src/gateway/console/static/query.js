// The playground: a form or JSON becomes the body of POST /v1/query; its price, its answer, and the same as code.
import { call } from "./api.js";
import { copy } from "./console.js";
import { asCurl, asPython } from "./query_code.js";
import { beginForm, fromForm } from "./query_form.js";
import { showAnswer } from "./query_answer.js";

const form = document.querySelector("[data-query]");
let current = "form";

function begin() {
  beginForm(form, JSON.parse(document.querySelector("#datasets").textContent));
  for (const button of document.querySelectorAll("[data-mode]")) button.addEventListener("click", () => mode(button.dataset.mode));
  const written = { curl: asCurl, python: asPython };
  for (const button of form.querySelectorAll("[data-copy]")) button.addEventListener("click", () => guarded(() => copy(written[button.dataset.copy](body()))));
  form.querySelector("[data-quote]")?.addEventListener("click", (event) => busy(event.target, quote));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("button.main");
    if (button) busy(button, run);
  });
}

function mode(wanted) {
  const text = form.elements.json;
  if (wanted === "json" && current === "form") text.value = JSON.stringify(fromForm(form), null, 2);
  current = wanted;
  form.querySelector("[data-form]").hidden = wanted === "json";
  form.querySelector("[data-json]").hidden = wanted === "form";
  for (const one of document.querySelectorAll("[data-mode]")) one.setAttribute("aria-pressed", String(one.dataset.mode === wanted));
}

function body() {
  if (current === "form") return fromForm(form);
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
  showAnswer(answer, Object.keys(asked.aggregate?.metrics ?? {}), performance.now() - started);
}

if (form) begin();
