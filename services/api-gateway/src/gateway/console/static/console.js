// What every page has: the theme switch, the menu on a phone, dialogs, forms that call the API, parts loaded later.
import { call, home, signIn } from "./api.js";

const on = (kind, selector, act) =>
  document.addEventListener(kind, (event) => {
    const found = event.target.closest?.(selector);
    if (found) act(found, event);
  });

export function notice(words) {
  const one = document.createElement("p");
  one.className = "notice";
  one.textContent = words;
  document.querySelector("#notices").append(one);
  setTimeout(() => one.remove(), 5000);
}

on("click", "[data-theme-switch]", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `bigdata_theme=${root.dataset.theme}; path=${home}; max-age=31536000; samesite=strict${secure}`;
});

on("click", "[data-menu]", (button) => {
  const open = document.querySelector("#nav").classList.toggle("open");
  button.setAttribute("aria-expanded", String(open));
});

on("click", "[data-opens]", (button) => document.getElementById(button.dataset.opens).showModal());
on("click", "[data-closes]", (button) => {
  button.closest("dialog").close();
});
// A key was shown there: however the dialog is left, the page behind it is out of date.
document.querySelector("#new-key")?.addEventListener("close", () => location.reload());

on("click", "[data-copies-text]", (button) => copy(button.dataset.copiesText));
on("click", "[data-copies]", (button) => copy(document.querySelector(button.dataset.copies).textContent));

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied");
  } catch {
    notice("The browser does not allow copying here: select the text and copy it by hand");
  }
}

on("submit", "form[data-api]", async (form, event) => {
  event.preventDefault();
  const [method, path] = form.dataset.api.split(" ");
  const button = form.querySelector("button:not([type=button])");
  const fault = form.querySelector(".fault");
  // One key per opened form: pressed twice, or sent again after a lost answer, it acts once.
  const headers = "once" in form.dataset ? { "idempotency-key": (form.dataset.once ||= crypto.randomUUID()) } : {};
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  if (fault) fault.hidden = true;
  try {
    await done(form, await call(method, path, method === "DELETE" ? undefined : fieldsOf(form), headers));
  } catch (refusal) {
    if ("once" in form.dataset && refusal.status >= 400 && refusal.status < 500) form.dataset.once = "";
    if (fault) {
      fault.textContent = refusal.message;
      fault.hidden = false;
    } else notice(refusal.message);
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
});

function fieldsOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || (field.value === "" && !field.required)) continue;
    body[field.name] =
      field.dataset.as === "number" ? Number(field.value) : field.dataset.as === "boolean" ? field.value === "true" : field.value;
  }
  return body;
}

async function done(form, answer) {
  const then = form.dataset.then;
  if (then === "key") {
    form.closest("dialog")?.close();
    document.querySelector("[data-key]").textContent = answer.api_key;
    document.querySelector("#new-key").showModal();
  } else if (then === "show") {
    const shown = document.querySelector("[data-shown]");
    shown.replaceChildren(account(answer));
    shown.hidden = false;
  } else if (form.dataset.until) {
    form.closest("dialog")?.close();
    notice("Handed over: this page follows until it is done");
    await until(form);
  } else location.reload();
}

// What a worker does takes a moment: look until it has come to be, then show it.
async function until(form) {
  const path = form.dataset.api.split(" ")[1];
  for (let tries = 0; tries < 120; tries += 1) {
    if ((await call("GET", path)).state === form.dataset.until) return location.reload();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  notice("This takes longer than expected: load the page again later");
}

// An answer as a list of names and values; what lies inside is named by where it is.
function account(answer) {
  const list = Object.assign(document.createElement("dl"), { className: "facts" });
  const add = (name, value) => {
    if (value !== null && typeof value === "object") for (const [inner, one] of Object.entries(value)) add(name ? `${name} ${inner}` : inner, one);
    else if (value !== null && !/_(id|url)$/.test(name))
      list.append(
        Object.assign(document.createElement("dt"), { textContent: name.replaceAll("_", " ") }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      );
  };
  add("", answer);
  return list;
}

for (const part of document.querySelectorAll("[data-part]")) load(part);

async function load(part) {
  try {
    const answer = await fetch(part.dataset.part, { headers: { accept: "text/html" } });
    if (answer.redirected) return signIn();
    part.innerHTML = await answer.text(); // written by our own templates, escaped there
  } catch {
    part.replaceChildren(Object.assign(document.createElement("p"), { className: "fault", textContent: "This could not be loaded: try again in a moment." }));
  }
  part.removeAttribute("aria-busy");
  if (part.dataset.againS) setTimeout(() => load(part), part.dataset.againS * 1000);
}
