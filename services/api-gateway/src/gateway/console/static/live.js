// The live log: rows arrive over server-sent events and are put on top of the table.
import { home } from "./api.js";

const place = document.querySelector("[data-live]");
const state = document.querySelector("[data-live-state]");
const toggle = document.querySelector("[data-live-switch]");
let source = null;

function say(words, tone) {
  state.textContent = words;
  state.className = `badge ${tone}`;
  state.hidden = false;
}

function follow() {
  source = new EventSource(`${home}/api/v1/admin/logs/tail`);
  source.onopen = () => say("live", "good");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "not available" : "connecting again", "warn");
  const arrive = (event) => {
    const entry = JSON.parse(event.data);
    if (entry && entry.endpoint) show(entry);
  };
  source.onmessage = arrive;
  for (const name of ["request", "log", "entry"]) source.addEventListener(name, arrive);
}

function show(entry) {
  if (!fits(entry)) return;
  const rows = place.querySelector("tbody");
  const row = rows.insertRow(0);
  row.className = "new";
  const cell = (content, kind = "") => {
    const one = row.insertCell();
    one.className = kind;
    one.append(content);
  };
  cell(link(`${home}/logs/${entry.id}`, entry.created_at.slice(0, 19).replace("T", " ")), "time");
  cell(entry.user_id ? link(`${home}/users/${entry.user_id}`, entry.username ?? entry.user_id) : "nobody");
  cell(Object.assign(document.createElement("code"), { textContent: `${entry.method} ${entry.endpoint}` }));
  const tone = entry.status < 300 ? "good" : entry.status < 400 ? "" : entry.status < 500 ? "warn" : "bad";
  cell(Object.assign(document.createElement("span"), { className: `badge ${tone}`, textContent: entry.status }));
  cell(`${Number(entry.duration_ms).toFixed(1)} ms`, "n");
  cell(String(entry.rows), "n");
  cell(String(entry.credits_used), "n");
  while (rows.rows.length > Number(place.dataset.most)) rows.deleteRow(-1);
  document.querySelector("[data-live] + .empty")?.remove();
}

// The filters of the page hold for what arrives too.
function fits(entry) {
  if ("withoutConsole" in place.dataset && entry.endpoint.startsWith(home)) return false;
  const wanted = new URLSearchParams(location.search);
  const same = (name) => !wanted.get(name) || String(entry[name]).toLowerCase() === wanted.get(name).toLowerCase();
  return ["endpoint", "method", "status", "dataset", "action", "user_id"].every(same);
}

function link(address, words) {
  return Object.assign(document.createElement("a"), { href: address, textContent: words });
}

toggle?.addEventListener("click", () => {
  const on = source === null;
  toggle.setAttribute("aria-pressed", String(on));
  if (on) follow();
  else {
    source.close();
    source = null;
    say("off", "");
  }
});
if (place && !("off" in place.dataset)) follow();
