// Calls of the API from a page of ours, with its session.

export class Problem extends Error {
  constructor(status, said, retryAfter) {
    super(said.detail || `the answer was ${status}`);
    this.status = status;
    this.code = said.code || "";
    this.reasons = said.reasons || [];
    this.hint = said.hint || "";
    this.retryAfter = retryAfter;
  }
}

/** How far the server's clock is ahead of this machine's, in ms. */
let ahead = 0;

export function serverNow() {
  return Date.now() + ahead;
}

export async function answer(method, path, body) {
  const headers = { "Gatekeeper-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch {
    throw new Problem(0, { detail: "Gatekeeper does not answer" }, 1);
  }
  const date = Date.parse(response.headers.get("Date") || "");
  if (!Number.isNaN(date)) ahead = date - Date.now();
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Problem(response.status, said, Number(response.headers.get("Retry-After")) || 0);
}

export async function call(method, path, body) {
  const response = await answer(method, path, body);
  return response.status === 204 ? null : response.json();
}

/** What a problem says, in one line. */
export function inWords(problem) {
  if (problem.status === 404 && problem.message === "Not Found") return "This Gatekeeper has no terminals";
  return [problem.message, ...(problem.reasons || []), problem.hint || ""].filter(Boolean).join("; ");
}
