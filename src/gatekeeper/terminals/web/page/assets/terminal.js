// /console/terminals/{id}

import { call, inWords } from "./api.js";
import { begin, byId, make, signInAddress } from "./page.js";
import { Watching, actButton, ask, linkButton } from "./watching.js";
import { OVER, stageInWords, stateInWords } from "./words.js";

const id = byId("terminal").dataset.terminal;
const wanted = new URLSearchParams(location.search).get("mode");
const PENDING_MS = 500;
const LOOKS_AFTER_THE_END = 12;
const stages = new Map();
let view = null;
let looking = 0;

begin();

const watching = new Watching({
  getTicket,
  acts: {
    again: () => actButton("Attach again", () => watching.connection.again()),
    start: () => linkButton("Start another", `/console?profile=${encodeURIComponent(view ? view.profile : "")}`),
    "sign-in": () => linkButton("Sign in", signInAddress()),
  },
  // The runner counts from its own start; the control plane from when it was asked.
  onStage: () => {
    clearTimeout(looking);
    looking = setTimeout(() => look().catch(() => null), PENDING_MS);
  },
  onOver: (_words, then) => ended(then),
});

/** Leave to attach; to watch only, where the policy allows no more. */
async function getTicket() {
  const path = `/terminals/${id}/attach`;
  if (wanted !== null) return call("POST", path, { mode: wanted });
  try {
    return await call("POST", path, { mode: "write" });
  } catch (problem) {
    if (problem.status !== 403) throw problem;
    return call("POST", path, { mode: "read" });
  }
}

function showStages() {
  const shown = [...stages].sort((a, b) => a[1] - b[1]);
  byId("stages").replaceChildren(
    ...shown.map(([name, seconds]) => make("li", {}, `${stageInWords(name)}: ${seconds.toFixed(2)} s`)),
  );
}

/** Take what the form was just told of this terminal: it need not be asked for again. */
function told() {
  const made = JSON.parse(sessionStorage.getItem("gatekeeper-made") || "null");
  sessionStorage.removeItem("gatekeeper-made");
  return made !== null && made.terminalId === id ? made : null;
}

async function look(known = null) {
  view = known || (await call("GET", `/terminals/${id}`));
  const begun = Date.parse(view.createdAt);
  for (const stage of view.stages || []) stages.set(stage.stage, (Date.parse(stage.at) - begun) / 1_000);
  showStages();
  watching.endsAt(view.expiresAt);
  return view;
}

/** Say how it ended, as the control plane knows it: it may know more than the socket said. */
async function ended(then) {
  for (const gone of ["share", "stop"]) byId(gone).hidden = true;
  for (let looks = 0; looks < LOOKS_AFTER_THE_END; looks += 1) {
    const found = await look().catch(() => null);
    byId("countdown").replaceChildren("");
    if (found === null) return;
    if (OVER.has(found.status)) {
      const said = found.exitCode ?? found.signal ?? null;
      if (said !== null) watching.why(`${stateInWords(found)}.`, then);
      return;
    }
    await pause();
  }
}

function showOver(found) {
  byId("state").replaceChildren("ended");
  watching.why(`${stateInWords(found)}.`, "start");
  for (const gone of ["share", "stop"]) byId(gone).hidden = true;
  if (found.lastScreen) {
    byId("last").hidden = false;
    byId("last").querySelector("pre").replaceChildren(found.lastScreen);
  }
}

function pause() {
  return new Promise((resolve) => { setTimeout(resolve, PENDING_MS); });
}

async function start() {
  try {
    for (let known = told(); ; known = null) {
      const found = await look(known);
      if (OVER.has(found.status)) return showOver(found);
      if (found.status !== "pending") return watching.begin();
      byId("state").replaceChildren(stateInWords(found));
      await pause();
    }
  } catch (problem) {
    return watching.why(inWords(problem), problem.status === 401 ? "sign-in" : "start");
  }
}

byId("stop").addEventListener("click", async () => {
  if (!(await ask("End this terminal, and all that runs in it?", "", "End it"))) return;
  await call("DELETE", `/terminals/${id}`).catch((problem) => byId("state").replaceChildren(inWords(problem)));
});

byId("share").addEventListener("click", () => {
  byId("share-made").hidden = true;
  byId("share-copy").hidden = true;
  byId("share-says").replaceChildren("");
  byId("sharing").showModal();
});
byId("share-close").addEventListener("click", () => byId("sharing").close());
byId("share-copy").addEventListener("click", () => navigator.clipboard.writeText(byId("share-url").value));
byId("share-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const made = await call("POST", `/terminals/${id}/share`, { minutes: Number(byId("minutes").value) });
    byId("share-url").value = made.url;
    byId("share-made").hidden = false;
    byId("share-copy").hidden = false;
    byId("share-says").replaceChildren(`Whoever has it may watch until ${new Date(made.expiresAt).toLocaleTimeString()}.`);
    byId("share-url").select();
  } catch (problem) {
    byId("share-says").replaceChildren(inWords(problem));
  }
});

start();
