// Sending a file with its progress, then following the load until it has ended.
import { csrfHeader, home, refused } from "./api.js";

const form = document.querySelector("[data-drop]");
if (form) {
  const file = form.elements.file;
  form.addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files.length) {
      file.files = event.dataTransfer.files;
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button.main");
    button.disabled = true;
    try {
      const sent = await send(form.elements.dataset.value, file.files[0]);
      location.assign(`${home}/uploads/${sent.upload_id}`);
    } catch (refusal) {
      const fault = form.querySelector(".fault");
      fault.textContent = refusal.message;
      fault.hidden = false;
      form.querySelector("[data-progress]").hidden = true;
    } finally {
      button.disabled = false;
    }
  });
}

// Not fetch: it does not say how much of the body has left.
function send(dataset, file) {
  const place = form.querySelector("[data-progress]");
  const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0, ariaLabel: "Sent part of the file" });
  const words = document.createElement("p");
  place.replaceChildren(bar, words);
  place.hidden = false;
  form.querySelector(".fault").hidden = true;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${home}/api/v1/uploads?${new URLSearchParams({ dataset, filename: file.name })}`);
    request.setRequestHeader(csrfHeader.name, csrfHeader.value);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => {
      const pace = loaded / ((performance.now() - started) / 1000);
      bar.value = total ? loaded / total : 0;
      words.textContent = `${bytes(loaded)} of ${bytes(total)} sent, ${bytes(pace)}/s, ${time((total - loaded) / pace)} left`;
    };
    request.onload = () =>
      request.status < 300 ? resolve(request.response) : reject(refused(request.status, request.response));
    request.onerror = () => reject(refused(0, { error: "The connection was lost: send the file again, nothing is loaded twice" }));
    request.send(file);
  });
}

const followed = document.querySelector("[data-follow]");
if (followed) follow(followed.dataset.follow);

function follow(id) {
  const source = new EventSource(`${home}/api/v1/uploads/${id}/events`);
  for (const name of ["progress", "end"]) source.addEventListener(name, (event) => show(JSON.parse(event.data), source));
  // A proxy may not pass events, and a worker may be slow to begin: then ask now and then.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) poll(id);
  };
}

async function poll(id) {
  const answer = await fetch(`${home}/api/v1/uploads/${id}`);
  if (answer.ok) show(await answer.json());
  setTimeout(() => poll(id), 1500);
}

function show(status, source) {
  if (!status.state) return;
  if (status.finished_at) {
    source?.close();
    location.reload();
    return;
  }
  followed.querySelector("progress").value = status.bytes_done;
  document.querySelector("[data-state] .badge").textContent = status.state.replaceAll("_", " ");
  const pace = status.rows_per_second ? `, ${Math.round(status.rows_per_second).toLocaleString("en")} rows/s` : "";
  const left = status.eta_seconds == null ? "" : `, ${time(status.eta_seconds)} left`;
  followed.querySelector("[data-words]").textContent =
    `${status.state}: ${status.rows.accepted.toLocaleString("en")} accepted, ${status.rows.rejected.toLocaleString("en")} rejected${pace}${left}`;
}

function bytes(value) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (value < 1024) return `${value.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(2)} GiB`;
}

function time(seconds) {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
