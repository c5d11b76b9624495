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
  // The filters of the page are those of the route.
  const wanted = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name, value]) => value && !["cursor", "from", "to"].includes(name)));
  source = new EventSource(`${home}/api/v1/admin/logs/tail?${wanted}`);
  source.onopen = () => say("live", "good");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "not available" : "connecting again", "warn");
  source.addEventListener("request", (event) => show(JSON.parse(event.data)));
}

function show(entry) {
  // Looking at the console is a request too; where nothing is looked for, it would hide everybody else's.
  if ("withoutConsole" in place.dataset && (entry.endpoint.startsWith(home) || entry.endpoint.endsWith("/tail"))) return;
  const rows = place.querySelector("tbody");
  const row = rows.insertRow(0);
  row.className = "new";
  const cell = (content, kind = "") => {
    const one = row.insertCell();
    one.className = kind;
    one.append(content);
  };
  cell(link(`${home}/logs/${entry.id}`, entry.created_at.slice(0, 19).replace("T", " ")), "time");
  const tone = entry.status < 300 ? "good" : entry.status < 400 ? "" : entry.status < 500 ? "warn" : "bad";
  cell(Object.assign(document.createElement("span"), { className: `badge ${tone}`, textContent: entry.status }));
  cell(Object.assign(document.createElement("code"), { textContent: `${entry.method} ${entry.endpoint}` }));
  cell(entry.user_id ? link(`${home}/users/${entry.user_id}`, entry.username ?? entry.user_id) : "nobody", "who-cell");
  cell(`${Number(entry.duration_ms).toFixed(entry.duration_ms < 100 ? 1 : 0)} ms`, "n");
  cell(String(entry.rows), "n");
  cell(String(entry.credits_used), "n");
  while (rows.rows.length > Number(place.dataset.most)) rows.deleteRow(-1);
  document.querySelector("[data-live] + .empty")?.remove();
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
