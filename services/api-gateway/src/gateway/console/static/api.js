// Asking the API as the one who is signed in. The session's cookie is sent by the browser and read by no script.
const csrf = document.querySelector("meta[name=csrf]").content;
export const home = "/console";

export class Refused extends Error {
  constructor(status, document) {
    super(told(status, document));
    this.status = status;
  }
}

// Resolves to the answer's document. Rejects with Refused, whose message can be shown as it is.
export async function call(method, path, body, headers = {}) {
  const sent = { "x-csrf-token": csrf, accept: "application/json", ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`${home}/api${path}`, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, { error: "The gateway does not answer: check the connection, then try again" });
  }
  const document = await answer.json().catch(() => null);
  if (!answer.ok) throw refused(answer.status, document);
  return document;
}

export function refused(status, document) {
  if (status === 401) signIn();
  return new Refused(status, document);
}

export function signIn() {
  const here = location.pathname + location.search;
  location.assign(`${home}/sign-in?ended=1&next=${encodeURIComponent(here)}`);
}

export const csrfHeader = { name: "x-csrf-token", value: csrf };

function told(status, document) {
  const words = document?.error ?? `The gateway answered ${status}`;
  const faults = Array.isArray(document?.details) ? document.details : [];
  return [words, ...faults.map((one) => `${one.path}: ${one.error}`)].join(" · ");
}
